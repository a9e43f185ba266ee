"""Where the `:name` parameters of a SQL text are, and where a colon is only a colon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from nomaflow.errors import Code, NomaflowError

# Everything a parameter cannot be inside of, then the parameter itself. The order matters:
# the first alternative that matches at a place wins (PostgreSQL manual, section 4.1).
_LEXEME = re.compile(
    r"""
    (?P<escaped>(?<![\w$"])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))   # E'it\'s'
  | (?P<literal>'(?:[^']|'')*(?:'|\Z))                        # 'it''s', and what B X U& N prefix
  | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))                         # "a name"
  | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$)        # $tag$ ... $tag$
  | (?P<line>--[^\r\n]*)
  | (?P<block>/\*)
  | (?P<cast>::)
  | (?P<param>(?<![\w:$\])"]):(?P<name>[A-Za-z_][A-Za-z0-9_]*))
  | (?P<number>(?<![\w$])\$\d+)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """A SQL text cut at its parameters: `texts[0] :names[0] texts[1] :names[1] ... texts[-1]`."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def order(self, *, apart: bool = False) -> tuple[str, ...]:
        """Which name `$1`, `$2` ... stand for; `apart` numbers each occurrence for itself."""
        return self.names if apart else tuple(dict.fromkeys(self.names))

    def spliced(self, texts: Mapping[str, str]) -> str:
        """The text with an SQL expression of our own in place of each name."""
        out = [self.texts[0]]
        for place, name in enumerate(self.names, 1):
            out += [texts[name], self.texts[place]]
        return "".join(out)

    def numbered(self, casts: Mapping[int, str] | None = None, *, apart: bool = False) -> str:
        """The text with `$1`, `$2` ... in place of the names, those in `casts` with their cast."""
        casts = casts or {}
        order = {name: number for number, name in enumerate(self.order(), 1)}
        out = [self.texts[0]]
        for place, name in enumerate(self.names, 1):
            number = place if apart else order[name]
            cast = casts.get(number)
            out.append(f"${number}" if cast is None else f"(${number}{cast})")
            out.append(self.texts[place])
        return "".join(out)


@lru_cache(maxsize=512)
def parse(sql: str) -> Statement:
    """Find the parameters of `sql`.

    NomaflowError INVALID for a text that numbers its own parameters (`$1`) or holds a NUL.
    """
    if "\x00" in sql:
        raise NomaflowError(Code.INVALID, "the SQL text holds a NUL character")
    texts: list[str] = []
    names: list[str] = []
    start = place = 0
    while (found := _LEXEME.search(sql, place)) is not None:
        place = found.end()
        if (mark := found.group("dollar")) is not None:
            closing = sql.find(mark, place)
            place = len(sql) if closing < 0 else closing + len(mark)
        elif found.group("block") is not None:
            place = _end_of_comment(sql, place)
        elif found.group("number") is not None:
            raise NomaflowError(
                Code.INVALID, f"the SQL text holds {found.group()}: write parameters as `:name`"
            )
        elif found.group("param") is not None:
            texts.append(sql[start : found.start()])
            names.append(found.group("name"))
            start = place
    texts.append(sql[start:])
    return Statement(tuple(texts), tuple(names))


def _end_of_comment(sql: str, place: int) -> int:
    """Block comments nest in PostgreSQL."""
    depth = 1
    while depth and (mark := _COMMENT_MARK.search(sql, place)) is not None:
        depth += 1 if mark.group() == "/*" else -1
        place = mark.end()
    return place if not depth else len(sql)
