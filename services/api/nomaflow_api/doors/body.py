"""A request's body: bounded, plain, and JSON that our own programs can keep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from nomaflow_api.doors.documents import is_storable

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST = 1024 * 1024
THROWN_AWAY = 8 * LARGEST
DEEPEST = 100


class Refused(Exception):
    """A request that HTTP itself refuses: the status and a sentence."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


async def read(request: Request) -> bytes:
    """Read the body up to 1 MiB; Refused 413 beyond, 415 for what is compressed."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "Send the body as it is: compressed bodies are not read.")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= LARGEST:
            parts.append(part)
        elif size > THROWN_AWAY:
            break
        else:  # a client that is still sending would not hear the refusal
            parts.clear()
    if size > LARGEST:
        message = f"The body is larger than {LARGEST} bytes."
        raise Refused(413, message, {"Connection": "close"})
    return b"".join(parts)


def needs_json(request: Request) -> None:
    """Refuse a body that does not call itself JSON in UTF-8: a form could come from any page."""
    kind, *parameters = request.headers.get("content-type", "").lower().split(";")
    if kind.strip() != "application/json":
        raise Refused(415, "Send `Content-Type: application/json`.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in {"utf-8", "utf8"}:
            raise Refused(415, "Send JSON in UTF-8.")


def parsed(raw: bytes | str) -> Any:
    """Read JSON; Refused 400 for what is not JSON or what no database can store."""
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Refused(400, f"The body is not JSON in UTF-8: {error}.") from None
    wrong = unusable(value)
    if wrong is not None:
        raise Refused(400, wrong)
    return value


def unusable(value: Any, depth: int = 0) -> str | None:
    """Say what is in a JSON value that cannot be stored or sent on, or None."""
    match value:
        case str():
            return None if is_storable(value) else "A text holds NUL or half a surrogate pair."
        case float() if not math.isfinite(value):
            return "A number is too large."
        case dict() | list() if depth >= DEEPEST:
            return f"The value is nested deeper than {DEEPEST} levels."
        case dict():
            parts = (part for pair in value.items() for part in pair)
        case list():
            parts = (part for part in value)
        case _:
            return None
    return next((wrong for part in parts if (wrong := unusable(part, depth + 1))), None)
