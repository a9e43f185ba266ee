"""All tables in one place, for migrations and the test that holds both equal."""

from __future__ import annotations

from nomaflow.store.tables import clock, connectors, declared, external, history, sync, watch
from nomaflow.store.tables.columns import SCHEMA, metadata

__all__ = [
    "SCHEMA",
    "clock",
    "connectors",
    "declared",
    "external",
    "history",
    "metadata",
    "sync",
    "watch",
]
