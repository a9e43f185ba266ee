"""How a copy between two tables is planned, streamed and made visible."""
