"""Redis, the carrier: doorbell, hints and a lock; nothing whose loss matters."""
