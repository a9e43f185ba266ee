"""Where the `:name` parameters of a SQL text are, and where a colon is only a colon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from nomaflow.errors import Code, NomaflowError

# Everything a parameter cannot be inside of, then the parameter itself, as each database reads
# its own language. The order matters: the first alternative that matches at a place wins.
_PARAM = r"""(?P<param>(?<![\w:$\])"`]):(?P<name>[A-Za-z_][A-Za-z0-9_]*))"""
_DOUBLED = r"""(?P<literal>'(?:[^']|'')*(?:'|\Z)) | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))"""
_LINE = r"(?P<line>--[^\r\n]*)"
_LEXEMES = {
    # PostgreSQL manual, section 4.1.
    "postgresql": rf"""
        (?P<escaped>(?<![\w$"])[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))   # E'it\'s'
      | {_DOUBLED}                                             # 'it''s', "a name"
      | (?P<dollar>(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$)     # $tag$ ... $tag$
      | {_LINE} | (?P<block>/\*) | (?P<cast>::) | {_PARAM}
      | (?P<number>(?<![\w$])\$\d+)
    """,
    # MySQL manual, sections 11.1 and 11.7: a backslash escapes, `--` wants a blank behind it.
    "mysql": rf"""
        (?P<literal>'(?:[^'\\]|\\.|'')*(?:'|\Z)) | (?P<text>"(?:[^"\\]|\\.|"")*(?:"|\Z))
      | (?P<quoted>`(?:[^`]|``)*(?:`|\Z))
      | (?P<line>(?:\#|--(?=[\s\x00-\x1f]|\Z))[^\r\n]*) | (?P<block>/\*)
      | {_PARAM} | (?P<number>\?)
    """,
    # sqlite.org/lang_expr.html and lang_keywords.html.
    "sqlite": rf"""
        {_DOUBLED} | (?P<tick>`(?:[^`]|``)*(?:`|\Z)) | (?P<bracket>\[[^\]]*(?:\]|\Z))
      | {_LINE} | (?P<block>/\*) | {_PARAM}
      | (?P<number>\?\d* | (?<![\w$])[@$]\w+)
    """,
    "oracle": rf"""
        (?P<alternative>(?<![\w$])[nN]?[qQ]'(?:
            \[.*?(?:\]'|\Z) | \{{.*?(?:\}}'|\Z) | \(.*?(?:\)'|\Z) | <.*?(?:>'|\Z)
          | (?P<mark>[^\s\[({{<]).*?(?:(?P=mark)'|\Z) ))
      | {_DOUBLED} | {_LINE} | (?P<block>/\*) | {_PARAM} | (?P<number>(?<![\w:]):\d+)
    """,
    "mssql": rf"""
        {_DOUBLED} | (?P<bracket>\[(?:[^\]]|\]\])*(?:\]|\Z))
      | {_LINE} | (?P<block>/\*) | (?P<static>::) | {_PARAM} | (?P<number>\?)
    """,
}
_PATTERNS = {
    dialect: re.compile(text, re.VERBOSE | re.DOTALL) for dialect, text in _LEXEMES.items()
}
_NESTING = {"postgresql", "mssql"}  # databases whose block comments nest
_COMMENT_MARK = re.compile(r"/\*|\*/")
DIALECTS = tuple(_PATTERNS)


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
def parse(sql: str, dialect: str = "postgresql") -> Statement:
    """Find the parameters of `sql`, as that database reads its own language.

    NomaflowError INVALID for a text that marks parameters otherwise (`$1`, `?`) or holds a NUL.
    """
    if "\x00" in sql:
        raise NomaflowError(Code.INVALID, "the SQL text holds a NUL character")
    pattern = _PATTERNS[dialect]
    texts: list[str] = []
    names: list[str] = []
    start = place = 0
    while (found := pattern.search(sql, place)) is not None:
        place = found.end()
        kind = found.lastgroup
        if kind == "dollar":
            mark = found.group("dollar")
            closing = sql.find(mark, place)
            place = len(sql) if closing < 0 else closing + len(mark)
        elif kind == "block":
            place = _end_of_comment(sql, place, nests=dialect in _NESTING)
        elif kind == "number":
            raise NomaflowError(
                Code.INVALID, f"the SQL text holds {found.group()}: write parameters as `:name`"
            )
        elif kind == "param":
            texts.append(sql[start : found.start()])
            names.append(found.group("name"))
            start = place
    texts.append(sql[start:])
    return Statement(tuple(texts), tuple(names))


def readings(sql: str) -> list[frozenset[str]]:
    """The names of parameters as each database that can read the text finds them, PostgreSQL first.

    For a text whose database is not known yet; empty when it suits none.
    """
    found: list[frozenset[str]] = []
    for dialect in DIALECTS:
        try:
            found.append(frozenset(parse(sql, dialect).names))
        except NomaflowError:
            continue
    return found


def _end_of_comment(sql: str, place: int, *, nests: bool) -> int:
    if not nests:
        closing = sql.find("*/", place)
        return len(sql) if closing < 0 else closing + 2
    depth = 1
    while depth and (mark := _COMMENT_MARK.search(sql, place)) is not None:
        depth += 1 if mark.group() == "/*" else -1
        place = mark.end()
    return place if not depth else len(sql)
