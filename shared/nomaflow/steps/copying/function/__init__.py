"""A function of the plugins that the rows of a copy pass through, in a child process."""
