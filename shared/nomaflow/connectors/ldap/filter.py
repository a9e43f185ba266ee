"""Whether a search filter is one (RFC 4515), and how a value is written inside one."""

from __future__ import annotations

import re

DEEPEST = 50
LONGEST = 64 * 1024

_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)(?:;[A-Za-z0-9-]+)*"
_VALUE = r"(?:[^()*\\\x00]|\\[0-9A-Fa-f]{2})*"
# attr=*, attr=a*b*c, attr~=x, attr>=x, attr<=x
_ITEM = re.compile(rf"{_ATTRIBUTE}\s*(?:=(?:{_VALUE}\*)*{_VALUE}|[~<>]={_VALUE})")
# attr:dn:rule:=x and :rule:=x
_EXTENSIBLE = re.compile(
    rf"(?:{_ATTRIBUTE}(?::dn)?(?::{_ATTRIBUTE})?|(?::dn)?:{_ATTRIBUTE}):={_VALUE}", re.IGNORECASE
)
_ESCAPED = str.maketrans({char: f"\\{ord(char):02x}" for char in "\\*()\x00"})


def escaped(value: str) -> str:
    """A value that stays one value inside a filter, whatever it holds (SEC-L01, RFC 4515)."""
    return value.translate(_ESCAPED)


def escaped_in_name(value: str) -> str:
    """A value that stays one value inside a distinguished name (RFC 4514 section 2.4)."""
    out = "".join(f"\\{char}" if char in '\\,+"<>;=#' else char for char in value)
    out = out.replace("\x00", "\\00")
    if out.startswith(" "):
        out = "\\" + out
    if out.endswith(" ") and not out.endswith("\\ "):
        out = out[:-1] + "\\ "
    return out


def check(text: str) -> None:
    """ValueError with the place (counted from 1) when `text` is not a filter."""
    if len(text) > LONGEST:
        raise ValueError(f"a filter has at most {LONGEST} characters, this one has {len(text)}")
    text = text.rstrip()
    at = _skipped(text, 0)
    end = _filter(text, at, 0)
    if end != len(text):
        raise ValueError(
            f"the filter is over at column {end + 1} and more follows; put (&...) or (|...) around"
        )


def _filter(text: str, at: int, depth: int) -> int:
    if depth > DEEPEST:
        raise ValueError(f"the filter is nested deeper than {DEEPEST} levels")
    if text[at : at + 1] != "(":
        raise ValueError(f"a filter begins with `(` at column {at + 1}: (objectClass=person)")
    at = _skipped(text, at + 1)
    mark = text[at : at + 1]
    if mark in {"&", "|", "!"}:
        at = _skipped(text, at + 1)
        first = at
        while text[at : at + 1] == "(" and (mark != "!" or at == first):
            at = _skipped(text, _filter(text, at, depth + 1))
        if at == first:
            many = "one filter" if mark == "!" else "filters"
            raise ValueError(f"`{mark}` at column {first} needs {many} in parentheses behind it")
    else:
        found = _EXTENSIBLE.match(text, at) or _ITEM.match(text, at)
        if found is None:
            raise ValueError(
                f"at column {at + 1} `attribute=value` is expected; write `*`, `(`, `)` and "
                "`\\` in a value as \\2a, \\28, \\29 and \\5c"
            )
        at = found.end()
    if text[at : at + 1] != ")":
        there = f", not `{text[at]}`" if at < len(text) else ", and the filter ends"
        raise ValueError(f"`)` is expected at column {at + 1}{there}")
    return at + 1


def _skipped(text: str, at: int) -> int:
    while text[at : at + 1].isspace():
        at += 1
    return at
