"""The graph: object types, their ids, pages and lists, and how their fields are read."""
