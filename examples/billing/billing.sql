-- Two invoices a day for the last thirteen months, the totals over them, and the VAT to declare.
-- Safe to run again: it begins by dropping what it made.
DROP MATERIALIZED VIEW IF EXISTS totals;
DROP TABLE IF EXISTS invoices, vat;

CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    country char(2) NOT NULL,
    net numeric(12, 2) NOT NULL,
    vat_rate numeric(4, 3) NOT NULL,
    issued_on date NOT NULL
);

CREATE TABLE vat (
    period char(7) NOT NULL,
    country char(2) NOT NULL,
    invoices bigint NOT NULL,
    amount numeric(14, 2) NOT NULL,
    PRIMARY KEY (period, country)
);

INSERT INTO invoices (country, net, vat_rate, issued_on)
SELECT v.country, 100 + extract(doy FROM day)::int, v.rate, day::date
FROM generate_series(current_date - interval '13 months', current_date, interval '1 day') AS day,
     (VALUES ('FR', 0.200), ('DE', 0.190)) AS v (country, rate);

CREATE MATERIALIZED VIEW totals AS
SELECT country, count(*) AS invoices, sum(net) AS net FROM invoices GROUP BY country
WITH NO DATA;
