"""The `nomaflow` command: one module per group of commands, each with a `register(app)`."""
