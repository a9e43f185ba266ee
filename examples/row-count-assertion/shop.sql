-- A small operational side and a reporting side in one database, for the recipes row-count-assertion
-- and twenty-tables. Safe to run again.
CREATE SCHEMA IF NOT EXISTS reporting;
CREATE SCHEMA IF NOT EXISTS ops;
DROP TABLE IF EXISTS public.customers, reporting.customers;

CREATE TABLE public.customers (id bigint PRIMARY KEY, email text NOT NULL);
CREATE TABLE reporting.customers (id bigint PRIMARY KEY, email text NOT NULL);
INSERT INTO public.customers SELECT n, 'customer' || n || '@example.com' FROM generate_series(1, 1000) AS n;
INSERT INTO reporting.customers SELECT id, email FROM public.customers WHERE id <= 990;

DO $$
BEGIN
    FOR n IN 1..20 LOOP
        EXECUTE format('DROP TABLE IF EXISTS ops.%I', 't' || lpad(n::text, 2, '0'));
        EXECUTE format(
            'CREATE TABLE ops.%I AS SELECT n AS id, ''row '' || n AS line FROM generate_series(1, %s) AS n',
            't' || lpad(n::text, 2, '0'), n * 10);
    END LOOP;
END $$;
