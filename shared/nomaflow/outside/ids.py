"""The plain id of a run inside the opaque one that the API gives."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID


def run_id(identifier: str) -> str:
    """Give the UUID inside a run's global id; what is no such id stays as it is."""
    padding = "=" * (-len(identifier) % 4)
    try:
        plain = base64.urlsafe_b64decode(identifier + padding).decode("ascii")
        kind, _, inner = plain.partition(":")
        return str(UUID(inner)) if kind == "Run" else identifier
    except (binascii.Error, ValueError):
        return identifier
