"""Sources of a copy that PostgreSQL's own COPY does not read."""
