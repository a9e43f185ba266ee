"""Runs that outside scripts execute and report."""

from __future__ import annotations
