"""Whose certificates are trusted: the system's and Mozilla's, or only those a connector names."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

import certifi

from nomaflow.errors import StepError


def context(ca_file: str | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer with verification; by the certificates of `ca_file` alone when given.

    StepError when the file cannot be read or holds no certificate.
    """
    if ca_file is None:
        return _context(None, 0)
    try:
        return _context(ca_file, Path(ca_file).stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise StepError(
            f"the certificates of ca_file = {ca_file!r} cannot be read: {words}", retryable=False
        ) from None


@lru_cache(maxsize=32)
def _context(ca_file: str | None, _changed_at: int) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca_file)
    if ca_file is None:
        made.load_verify_locations(cafile=certifi.where())
    return made
