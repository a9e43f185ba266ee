"""What is declared becomes what is in force, and what is switched off by hand."""
