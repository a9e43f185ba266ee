"""Finds the next page in a `Link` header (RFC 8288)."""

from __future__ import annotations

import re

_LINK = re.compile(
    r'\s*<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)'
)
_PARAMETER = re.compile(r';\s*([^\s=;,]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))')


def next_of(header: str | None) -> str | None:
    """The target of the first link whose relation is `next`, or None."""
    place = 0
    while header and (found := _LINK.match(header, place)):
        place = found.end()
        for name, quoted, bare in _PARAMETER.findall(found.group(2)):
            # A link may have several relations; only its first `rel` counts (section 3.3).
            if name.lower() == "rel":
                if "next" in (quoted or bare).lower().split():
                    return found.group(1)
                break
        comma = header.find(",", place)
        if comma < 0:
            return None
        place = comma + 1
    return None
