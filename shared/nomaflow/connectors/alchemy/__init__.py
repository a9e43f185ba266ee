"""Oracle and SQL Server over SQLAlchemy's asynchronous drivers."""
