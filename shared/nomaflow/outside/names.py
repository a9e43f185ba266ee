"""Names that scripts give their jobs, sources and destinations: what may be one, how it is kept."""

from __future__ import annotations

import unicodedata

LONGEST_NAME = 200
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that make two names look like one, or a line like two."""


def name_of(text: str) -> str:
    """A name as it is kept: without blanks around it, and each letter in one form (NFC).

    So that those who look for it need not know how a script wrote it.
    """
    return unicodedata.normalize("NFC", text.strip())


def wrong_name(text: str) -> str | None:
    """Why this is no name, source or destination; None when it is one."""
    text = text.strip()
    length = len(text)
    if not length:
        return f"is empty; it must be text of 1 to {LONGEST_NAME} characters"
    if length > LONGEST_NAME:
        return f"has {length:,} characters, and may have {LONGEST_NAME} at most"
    for char in text:
        if unicodedata.category(char) in _INVISIBLE:
            return f"holds the invisible character U+{ord(char):04X}, which no name may"
    return None
