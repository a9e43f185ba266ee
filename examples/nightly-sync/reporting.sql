-- The reporting store as the nightly job finds it: yesterday's rows, and all that must survive
-- a refresh: keys, defaults, indexes, a view on top, and the rights of those who read it.
CREATE SCHEMA IF NOT EXISTS reporting;
DROP VIEW IF EXISTS reporting.revenue_by_country;
DROP TABLE IF EXISTS reporting.orders, reporting.customers;

CREATE TABLE reporting.customers (
    id bigint PRIMARY KEY,
    email text NOT NULL,
    full_name text NOT NULL,
    country char(2) NOT NULL DEFAULT 'FR',
    credit_limit numeric(12, 2),
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);
CREATE INDEX customers_by_country ON reporting.customers (country);

CREATE TABLE reporting.orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    status text NOT NULL DEFAULT 'new',
    amount numeric(12, 2) NOT NULL CHECK (amount > 0),
    note text,
    ordered_at timestamptz NOT NULL
);
CREATE INDEX orders_by_customer ON reporting.orders (customer_id);

CREATE VIEW reporting.revenue_by_country AS
SELECT c.country, count(*) AS orders, sum(o.amount) AS revenue
FROM reporting.orders o JOIN reporting.customers c ON c.id = o.customer_id
GROUP BY c.country;

GRANT USAGE ON SCHEMA reporting TO reporting_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO reporting_reader;

INSERT INTO reporting.customers
SELECT n, 'customer' || n || '@example.com', 'Customer ' || n, 'FR', NULL, '{}',
       timestamptz '2020-01-01 00:00+00'
FROM generate_series(1, 10000) AS n;

INSERT INTO reporting.orders
SELECT n, 1 + n % 10000, 'new', 1.99, NULL, timestamptz '2024-01-01 00:00+00'
FROM generate_series(1, 50000) AS n;

ANALYZE reporting.customers, reporting.orders;
