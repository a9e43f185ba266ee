"""PostgreSQL, the truth: tables, migrations, and one module of functions per aggregate."""
