"""Frames between the worker, a guardian and a child: four bytes of length, then JSON or rows."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

_LENGTH = struct.Struct(">I")
# Set in the length of a frame that is no JSON but rows of a copy, as they are.
_RAW = 0x8000_0000
# The largest answer of a function. A frame may be a little larger than what it carries.
MOST_ANSWER = 32 * 1024 * 1024
MOST_FRAME = MOST_ANSWER + 1024 * 1024
# The longest text of one log line, in characters.
MOST_TEXT = 64 * 1024


class WireError(Exception):
    """The other side sent something that is not a frame of ours."""


def frame(message: dict[str, Any]) -> bytes:
    """One message as it travels."""
    return frame_text(json.dumps(message, separators=(",", ":")))


def frame_text(text: str) -> bytes:
    """One message that is JSON text already."""
    body = text.encode("ascii")
    return _LENGTH.pack(len(body)) + body


def raw(rows: bytes) -> tuple[bytes, bytes]:
    """Rows as they travel, behind their length; they arrive as the message {"rows": ...}."""
    return _LENGTH.pack(len(rows) | _RAW), rows


class Frames:
    """Cuts what arrives on a socket into messages."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Every message complete with `data`; WireError for what is none."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (told,) = _LENGTH.unpack_from(self._buffer)
            size = told & ~_RAW
            _check(size, self._most)
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _message(body, told)


async def read(stream: asyncio.StreamReader, most: int) -> dict[str, Any] | None:
    """The next message, or None when the other side is gone; WireError for what is none."""
    try:
        (told,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        size = told & ~_RAW
        _check(size, most)
        body = await stream.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return _message(body, told)


def _check(size: int, most: int) -> None:
    if size > most:
        raise WireError(f"a frame of {size} bytes, more than {most}")


def _message(body: bytes, told: int) -> dict[str, Any]:
    if told & _RAW:
        return {"rows": body}
    try:
        message = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a frame that is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("a frame that is not a JSON object")
    return message


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
