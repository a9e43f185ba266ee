"""Connectors declared through the API, their secrets encrypted."""

from __future__ import annotations
