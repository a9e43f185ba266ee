"""What a job is, whoever declares it: its shape, its words, its parameters, its checks."""
