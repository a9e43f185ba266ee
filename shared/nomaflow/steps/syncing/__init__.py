"""The rooms of `http_sync`: pages read in order, mapped in bulk, written in batches."""
