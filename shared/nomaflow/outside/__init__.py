"""What scripts and the command line say to the API, and what the API records of them."""
