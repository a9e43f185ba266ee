"""PostgreSQL's and the network's complaints as sentences, with the category retries ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import asyncpg

from nomaflow.errors import Category, StepError

# SQLSTATE classes and codes that say the connection, not the statement, is the trouble
# (PostgreSQL manual, appendix A).
_CONNECTION = ("08", "57P01", "57P02", "57P03", "57P05", "53300", "28")
DRIVER = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Whatever asyncpg raises; its own class for a connection that died between two statements too."""

_ARGUMENT = re.compile(r"(?:for query argument )?\$(\d+)")
# Retries end at once: the same words will not be read otherwise later. A table or column that is
# not there may come (another job makes it), so those are tried again.
_SYNTAX_ERROR = "42601"
# Python counts the years 1 to 9999; PostgreSQL goes from 4714 BC to 294276.
_BEYOND_PYTHON = re.compile(r"ordinal must be|year -?\d+ is out of range|date value out of range")
_ADVICE = (
    ("cannot run inside a transaction block", "set `transaction = false`"),
    ("cannot insert multiple commands", "one text is one statement: make each a step of its own"),
)


def cannot_connect(connector: str, where: str, error: BaseException) -> StepError:
    """A connection that could not be made."""
    return StepError(
        f"cannot connect to connector {connector!r} ({where}): {_plain(error)}",
        category="connection",
    )


_MIDNIGHT = "hour must be in 0..23"


def failed(connector: str, error: BaseException, names: Sequence[str] = ()) -> StepError:
    """A statement that failed; `$n` in the words becomes the parameter's name."""
    if isinstance(error, asyncpg.PostgresError):
        return _server_error(connector, error, names)
    if _is_lost(error):
        return StepError(
            f"the connection of connector {connector!r} was lost: {_plain(error)}",
            category="connection",
        )
    words = _named(_plain(error), names)
    if isinstance(error, ValueError | OverflowError) and _BEYOND_PYTHON.search(words):
        words = (
            "a date lies outside of the years 1 to 9999 and cannot be read as one; "
            "select it as text, `column::text`"
        )
    elif isinstance(error, ValueError) and _MIDNIGHT in words:
        words = "the time 24:00 cannot be read as one; select it as text, `column::text`"
    return StepError(f"connector {connector!r}: {words}")


def _server_error(connector: str, error: asyncpg.PostgresError, names: Sequence[str]) -> StepError:
    code = str(error.sqlstate or "")
    words = _named(str(error).partition("\n")[0], names)
    for label, value in (("detail", error.detail), ("hint", error.hint), ("where", error.context)):
        if value:
            words += f"; {label}: {_named(str(value), names)}"
    for said, advice in _ADVICE:
        if said in words:
            words += f"; {advice}"
    category: Category = "error"
    if code.startswith(_CONNECTION):
        category = "connection"
    elif code == "57014" and "timeout" in str(error):
        category = "timeout"
    return StepError(
        f"connector {connector!r}: {words} (SQLSTATE {code})" if code else f"{connector}: {words}",
        category=category,
        retryable=code != _SYNTAX_ERROR,
    )


def _is_lost(error: BaseException) -> bool:
    if isinstance(error, asyncpg.InterfaceError):
        return "connection" in str(error)
    return isinstance(error, OSError | asyncpg.InternalClientError)


def _named(text: str, names: Sequence[str]) -> str:
    def name(found: re.Match[str]) -> str:
        number = int(found.group(1))
        return f"`:{names[number - 1]}`" if 0 < number <= len(names) else found.group()

    return _ARGUMENT.sub(name, text)


def _plain(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error).partition("\n")[0] or type(error).__name__
