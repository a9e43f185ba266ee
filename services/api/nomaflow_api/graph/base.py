"""What every part of the graph shares: Node and its ids, pages, the caller's mistakes as data."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from uuid import UUID

import strawberry

from nomaflow.errors import Code, NomaflowError
from nomaflow.job.problems import Problem
from nomaflow.job.spec import SpecErrors
from nomaflow_api.doors.failures import bad_input
from nomaflow_api.graph.enums import ErrorCode


@strawberry.interface
class Node:
    id: strawberry.ID


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class UserError:
    code: ErrorCode = strawberry.field(description="Stable, for programs")
    message: str = strawberry.field(description="A sentence for people")
    path: list[str] = strawberry.field(description='Where in the input, e.g. ["steps", "1", "url"]')


def global_id(kind: str, *parts: object) -> strawberry.ID:
    """Make the opaque id of an object."""
    text = ":".join([kind, *map(str, parts)])
    return strawberry.ID(base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))


def parts_of(text: str) -> tuple[str, str]:
    """Read an opaque id back: kind and the rest; BAD_USER_INPUT when it is not one of ours."""
    try:
        plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (ValueError, binascii.Error):
        plain = ""
    kind, colon, rest = plain.partition(":")
    if not colon or not rest or len(text) > 512:  # noqa: PLR2004
        raise bad_input("This id is not one that this API gave out.")
    return kind, rest


def uuid_of(kind: str, text: str) -> UUID:
    """Read an id that may be the UUID itself or the global id of that kind."""
    try:
        return UUID(text)
    except ValueError:
        pass
    found, rest = parts_of(text)
    try:
        if found == kind:
            return UUID(rest)
    except ValueError:
        pass
    raise bad_input(f"This is not the id of a {kind}: give its UUID or its `id`.")


def _in_words_of(known: Mapping[str, str], problem: Problem | NomaflowError) -> str:
    if problem.code is not Code.INVALID:  # about what people named themselves, not about fields
        return problem.message
    return _FIELD.sub(lambda word: f"`{known.get(word[1], word[1])}`", problem.message)


_FIELD = re.compile(r"(?<!step )(?<!job )(?<!parameter )(?<!kwarg )`([a-z_]+)`")
"""A field in a sentence; what people named themselves has its kind before it."""


def mistakes(
    error: NomaflowError | SpecErrors, names: Mapping[str, str] | None = None
) -> list[UserError]:
    """List what the caller did wrong; `names` are those that inputs spell differently from TOML.

    Sentences name fields as the client wrote them, and so do paths.
    """
    found = error.problems if isinstance(error, SpecErrors) else (error,)
    known = names or {}
    return [
        UserError(
            code=problem.code,
            message=_in_words_of(known, problem),
            path=[known.get(part, part) for part in problem.path],
        )
        for problem in found
    ]
