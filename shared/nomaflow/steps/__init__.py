"""What a job can do: one module per step type, each a frozen model whose `run` is the deed."""
