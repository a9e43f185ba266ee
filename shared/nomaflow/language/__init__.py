"""What definitions may say: `${...}`, expressions, patterns. Pure."""
