"""Text of user code as a log can hold it: nothing in it moves a cursor or forges a line."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline, DEL, the Unicode line separators, and what turns the
# direction of writing (SEC-O01, SEC-D08).
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Control characters spelt out: ESC becomes the four characters \x1b."""
    return _CONTROLS.sub(_spelt, text)


def _spelt(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004  one byte
