"""Real PostgreSQL and Valkey from wheels: for `nomaflow up` and for tests."""
