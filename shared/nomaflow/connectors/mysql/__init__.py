"""MySQL and MariaDB over asyncmy."""
