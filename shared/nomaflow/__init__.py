"""Nomaflow: scheduled and on-demand jobs behind one GraphQL endpoint."""

from nomaflow.step_context import StepContext

__all__ = ["StepContext"]
