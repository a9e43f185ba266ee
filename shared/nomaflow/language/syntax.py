"""JMESPath's syntax, where ours is stricter or kinder than the library's."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from jmespath import exceptions, lexer, parser

_Node = dict[str, Any]


class Lexer(lexer.Lexer):  # type: ignore[misc]  # jmespath has no types
    """Text is in single quotes; backticks hold JSON and nothing else."""

    def _consume_literal(self) -> _Node:
        start = self._position
        literal = self._consume_until("`").replace("\\`", "`")
        try:
            value = json.loads(literal)
        except (ValueError, RecursionError):
            raise exceptions.LexerError(
                start, literal, f"`{literal}` is not JSON; write text in single quotes: '{literal}'"
            ) from None
        return {"type": "literal", "value": value, "start": start, "end": self._position - start}


class Parser(parser.Parser):  # type: ignore[misc]  # jmespath has no types
    """`!a.b` is not (a.b): the library reads it as (!a).b, which is always null."""

    BINDING_POWER: ClassVar[dict[str, int]] = {**parser.Parser.BINDING_POWER, "not": 6}
    _CACHE: ClassVar[dict[str, Any]] = {}
