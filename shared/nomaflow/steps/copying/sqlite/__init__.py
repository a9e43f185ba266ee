"""A copy into SQLite, and what its catalogue says."""
