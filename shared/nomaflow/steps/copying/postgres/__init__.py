"""A copy into PostgreSQL, and how PostgreSQL is read."""
