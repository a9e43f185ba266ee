"""How a function of the project's plugins is found, called, and what it may answer."""
