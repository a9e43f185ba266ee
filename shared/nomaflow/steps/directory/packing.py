"""Columns of text as one text each, which the server cuts apart again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence


def packed(columns: Sequence[Sequence[str | None]]) -> Mapping[str, str]:
    """Parameters `c0`, `c1` ... with the marks between values (`apart`) and for none (`nothing`).

    An array that is bound as such costs ten times as much on the way to PostgreSQL. The first
    value of each text is nobody's: a text of one empty value would be no value at all.
    """
    for apart, nothing in _marks():
        texts = [_joined(values, apart, nothing) for values in columns]
        whole = {f"c{at}": text for at, text in enumerate(texts) if text is not None}
        if len(whole) == len(columns):
            return {**whole, "apart": apart, "nothing": nothing}
    raise AssertionError("the marks never end")


def _marks() -> Iterator[tuple[str, str]]:
    """What stands between values and for none: control characters, or what nobody has written."""
    yield "\x1f", "\x1e"
    while True:
        yield f"\x1f{secrets.token_hex(8)}\x1f", f"\x1e{secrets.token_hex(8)}\x1e"


def _joined(values: Sequence[str | None], apart: str, nothing: str) -> str | None:
    """The values as one text; None when one of them holds a mark."""
    text = apart.join(["", *(nothing if value is None else value for value in values)])
    if text.count(apart) == len(values) and text.count(nothing) == sum(v is None for v in values):
        return text
    return None
