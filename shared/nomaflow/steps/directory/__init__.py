"""Filling a table from a directory: values, guards, and where rows go."""
