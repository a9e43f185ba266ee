"""A copy into MySQL or MariaDB, and what their catalogue says."""
