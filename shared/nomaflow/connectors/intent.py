"""What a SQL text is about to do, as far as its words tell: read, be planned, or anything."""

from __future__ import annotations

import re
from functools import lru_cache

# What no keyword can be in: literals, quoted names, comments (each database's own kinds).
_QUIET = re.compile(
    r"""'(?:[^'\\]|\\.|'')*(?:'|\Z) | "(?:[^"\\]|\\.|"")*(?:"|\Z) | `[^`]*(?:`|\Z)
      | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
      | --[^\r\n]* | \#[^\r\n]* | /\*.*?(?:\*/|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_READS = frozenset(
    {"select", "values", "table", "show", "explain", "with", "describe", "desc", "pragma"}
)
_WRITES = frozenset(
    {"insert", "update", "delete", "merge", "replace", "into", "call", "truncate", "drop", "create"}
    | {"alter", "analyze", "refresh", "copy"}
)
_LOCKS = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b", re.IGNORECASE)
_PLANNABLE = frozenset({"insert", "update", "delete", "merge", "with", "replace", "select"})


@lru_cache(maxsize=512)
def first_word(sql: str) -> str:
    """The first keyword, in small letters; empty when there is none."""
    found = _WORD.search(_QUIET.sub(" ", sql))
    return found.group().lower() if found else ""


@lru_cache(maxsize=512)
def only_reads(sql: str) -> bool:
    """Whether the text is a query in whose words nothing is written.

    A function that it calls may write all the same: whoever must be sure opens a read-only
    transaction. `replace` counts as a word of writing only where it begins the statement.
    """
    plain = _LOCKS.sub(" ", _QUIET.sub(" ", sql))
    words = [word.lower() for word in _WORD.findall(plain)]
    if not words or words[0] not in _READS:
        return False
    if words[0] == "pragma":
        return "=" not in plain
    return not (_WRITES - {"replace"}).intersection(words[1:])


def is_plannable(sql: str) -> bool:
    """Whether EXPLAIN takes the statement without running it."""
    return first_word(sql) in _PLANNABLE
