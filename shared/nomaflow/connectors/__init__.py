"""How a step reaches a database, an HTTP API or a directory."""
