"""MySQL's and MariaDB's complaints as sentences, with the category retries ask for."""

from __future__ import annotations

from asyncio import IncompleteReadError

from asyncmy import errors

from nomaflow.errors import Category, StepError

DRIVER = (OSError, IncompleteReadError, RuntimeError, ValueError, errors.MySQLError)
"""Whatever asyncmy raises; RuntimeError when a server asks for a file of ours."""

# Error numbers that say the connection, not the statement, is the trouble (MySQL manual,
# error reference; those from 2000 on are the client's own).
_CONNECTION = frozenset(
    {1040, 1042, 1043, 1044, 1045, 1047, 1053, 1077, 1079, 1080, 1081, 1129, 1130, 1152}
    | {1156, 1157, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1698, 1927, 2002, 2003, 2006, 2013}
    | {2014, 2026, 2055, 4031}
)
_TIMEOUT = frozenset({1205, 1907, 1969, 3024})
# ER_PARSE_ERROR, ER_EMPTY_QUERY, ER_SYNTAX_ERROR: no later try reads the words otherwise.
_SYNTAX = frozenset({1064, 1065, 1149})
WRONG_MOMENT = frozenset({1292, 1366, 1411})
INTERRUPTED = 1317
NO_SAVEPOINT = 1305


def cannot_connect(connector: str, where: str, error: BaseException) -> StepError:
    """A connection that could not be made."""
    return StepError(
        f"cannot connect to connector {connector!r} ({where}): {_words(error)}",
        category="connection",
    )


def failed(connector: str, error: BaseException) -> StepError:
    """A statement that failed."""
    number = number_of(error)
    if _is_lost(error, number):
        return StepError(
            f"the connection of connector {connector!r} was lost: {_words(error)}",
            category="connection",
        )
    category: Category = "error"
    if number in _CONNECTION:
        category = "connection"
    elif number in _TIMEOUT:
        category = "timeout"
    return StepError(
        f"connector {connector!r}: {_words(error)}{_numbers(error)}",
        category=category,
        retryable=number not in _SYNTAX,
    )


def number_of(error: BaseException) -> int:
    """The server's error number; 0 when there is none."""
    first = error.args[0] if isinstance(error, errors.MySQLError) and error.args else 0
    return first if isinstance(first, int) else 0


def _is_lost(error: BaseException, number: int) -> bool:
    if isinstance(error, errors.InterfaceError):
        return True
    return isinstance(error, OSError | IncompleteReadError) or number in {1927, 2006, 2013, 2055}


def _numbers(error: BaseException) -> str:
    number = number_of(error)
    if not number:
        return ""
    state = getattr(error, "sqlstate", None)
    return f" (MySQL error {number}, SQLSTATE {state})" if state else f" (MySQL error {number})"


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, IncompleteReadError):
        return "the server closed the connection"
    said = error.args[-1] if isinstance(error, errors.MySQLError) and error.args else error
    return str(said).partition("\n")[0] or type(error).__name__
