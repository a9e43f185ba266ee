"""Alerts: who is told of what, in which words, and how each message gets there."""
