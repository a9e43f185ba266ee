-- The operational database: 100 000 customers and 500 000 orders, made by the server itself.
-- Safe to run again: it begins by dropping what it made.
DROP TABLE IF EXISTS public.orders, public.customers;

CREATE TABLE public.customers (
    id bigint PRIMARY KEY,
    email text NOT NULL,
    full_name text NOT NULL,
    country char(2) NOT NULL DEFAULT 'FR',
    credit_limit numeric(12, 2),
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL
);

CREATE TABLE public.orders (
    id bigint PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES public.customers,
    status text NOT NULL DEFAULT 'new',
    amount numeric(12, 2) NOT NULL,
    note text,
    ordered_at timestamptz NOT NULL
);

INSERT INTO public.customers
SELECT n,
       'customer' || n || '@example.com',
       'Customer ' || n,
       (ARRAY['FR', 'DE', 'ES', 'IT', 'PT'])[1 + n % 5],
       CASE WHEN n % 7 <> 0 THEN n % 10000 + 0.25 END,
       jsonb_build_object('newsletter', n % 2 = 0),
       timestamptz '2020-01-01 00:00+00' + n * interval '7 minutes'
FROM generate_series(1, 100000) AS n;

INSERT INTO public.orders
SELECT n,
       1 + (n * 7919::bigint) % 100000,
       (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + n % 4],
       n % 5000 + 0.99,
       CASE WHEN n % 11 = 0 THEN 'gift, "wrapped"' || E'\n' || 'second line' END,
       timestamptz '2024-01-01 00:00+00' + n * interval '1 minute'
FROM generate_series(1, 500000) AS n;

ANALYZE public.customers, public.orders;
