"""What a client is told when something goes wrong: a code, and a sentence only where it is ours.

Whatever was not written for the caller becomes "Internal error" with an id; the original goes to
the log alone, where secrets are masked.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

from nomaflow.errors import Code, NomaflowError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = structlog.get_logger(__name__)


class ApiCode(StrEnum):
    """The code of a top-level error, in `extensions.code`."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    GRAPHQL_PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    GRAPHQL_VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    DEPTH_LIMIT = "DEPTH_LIMIT"
    ALIAS_LIMIT = "ALIAS_LIMIT"
    TOKEN_LIMIT = "TOKEN_LIMIT"  # noqa: S105  a limit of tokens, not a token
    COST_LIMIT = "COST_LIMIT"
    RATE_LIMITED = "RATE_LIMITED"
    TIMEOUT = "TIMEOUT"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    OSError,
)
AWAY = "The database cannot be reached just now; try again in a moment."
TOO_LONG = "The answer took too long; ask for less, or narrow the filter."


def refusal(code: ApiCode, message: str, **extensions: Any) -> GraphQLError:
    """Make a top-level error that a client is meant to read."""
    return GraphQLError(message, extensions={"code": code.value, **extensions})


def bad_input(message: str) -> GraphQLError:
    """Make the error of an argument that cannot be used."""
    return refusal(ApiCode.BAD_USER_INPUT, message)


def shown(errors: Iterable[GraphQLError]) -> list[GraphQLError]:
    """Return the errors as a client may see them."""
    return [_shown(error) for error in errors]


def _shown(error: GraphQLError) -> GraphQLError:  # noqa: PLR0911  a case for each kind of error
    if error.extensions and "code" in error.extensions:
        return error
    if isinstance(error, GraphQLSyntaxError):
        limit = "more than" in error.message and "tokens" in error.message
        return coded(error, ApiCode.TOKEN_LIMIT if limit else ApiCode.GRAPHQL_PARSE_FAILED)
    original = _root(error)
    match original:
        case NomaflowError(code=Code.UNAVAILABLE):
            return coded(error, ApiCode.UNAVAILABLE, original.message)
        case NomaflowError():
            return coded(error, ApiCode.BAD_USER_INPUT, original.message)
        case MissingQueryError():
            return coded(error, ApiCode.BAD_USER_INPUT, "There is no GraphQL document to run.")
        case CannotGetOperationTypeError() | InvalidOperationTypeError():
            return coded(error, ApiCode.BAD_USER_INPUT)
        case TimeoutError() | asyncpg.QueryCanceledError():
            return coded(error, ApiCode.TIMEOUT, TOO_LONG)
        case _ if isinstance(original, DATABASE_AWAY):
            log.warning("the database is away", error=type(original).__name__)
            return coded(error, ApiCode.UNAVAILABLE, AWAY)
        case _ if error.path is None and error.message.startswith("Variable '$"):
            return coded(error, ApiCode.BAD_USER_INPUT)
    return coded(error, ApiCode.INTERNAL, "Internal error", errorId=_logged(original or error))


def _root(error: GraphQLError) -> BaseException | None:
    original: BaseException | None = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    return original


def coded(
    error: GraphQLError, code: ApiCode, message: str | None = None, **extensions: Any
) -> GraphQLError:
    """Return the same error, in the same place, with a code and perhaps other words."""
    return GraphQLError(
        message or error.message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions={"code": code.value, **extensions},
    )


def _logged(error: BaseException) -> str:
    error_id = uuid4().hex[:12]
    log.error("internal error", error_id=error_id, exc_info=error)
    return error_id


def internal(error: BaseException) -> dict[str, str]:
    """Log a fault that happened outside GraphQL; answers what may be said of it."""
    return {
        "code": ApiCode.INTERNAL.value,
        "message": "Internal error",
        "errorId": _logged(error),
    }
