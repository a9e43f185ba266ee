"""The worker: claims runs, executes their chains, writes history."""
