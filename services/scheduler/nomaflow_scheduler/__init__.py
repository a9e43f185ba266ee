"""The scheduler program: fires what is due, and keeps watch over what runs."""
