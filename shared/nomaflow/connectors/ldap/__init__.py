"""A directory: where it is, a bound session, and reading what it answers."""
