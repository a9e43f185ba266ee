"""Running a function of the plugins in a child process that can always be ended."""
