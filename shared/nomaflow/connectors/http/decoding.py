"""Reading an HTTP body as it arrives: decompressed in small portions, never beyond a limit."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

import httpx

from nomaflow.errors import StepError

ACCEPTED = "gzip, deflate"
_PORTION = 65_536


async def body(response: httpx.Response, max_bytes: int) -> bytes:
    """The decoded body; StepError as soon as it is larger than `max_bytes` or cannot be decoded."""
    announced = response.headers.get("content-length", "")
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"} and announced.isdigit() and int(announced) > max_bytes:
        raise _too_big(max_bytes)
    collected = bytearray()
    chunks = _bounded(response.aiter_raw(_PORTION), max_bytes)
    async for portion in _decoded(chunks, encoding):
        collected += portion
        if len(collected) > max_bytes:
            raise _too_big(max_bytes)
    return bytes(collected)


async def _bounded(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """What comes over the wire, which without end may unpack to nothing at all."""
    left = max_bytes + max_bytes // 8 + _PORTION  # what does not compress becomes a little larger
    async for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise _too_big(max_bytes)
        yield chunk


async def _decoded(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    if encoding in {"", "identity"}:
        async for chunk in chunks:
            yield chunk
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise StepError(f"the answer is encoded as {encoding!r:.40}, which was not asked for")
    inflater = _Inflater(raw_allowed=encoding == "deflate")
    async for chunk in chunks:
        try:
            for portion in inflater.portions(chunk):
                yield portion
        except zlib.error as error:
            raise StepError(f"the answer's {encoding} encoding is broken: {error}") from None
    if inflater.is_unfinished:
        raise StepError(f"the answer's {encoding} encoding ends too early", category="connection")


class _Inflater:
    """zlib with an upper size for each portion, so that a small chunk cannot become a huge one."""

    def __init__(self, *, raw_allowed: bool) -> None:
        self._raw_allowed = raw_allowed
        self._zlib = zlib.decompressobj(47)  # gzip or zlib, told apart by their first bytes
        self._started = False

    @property
    def is_unfinished(self) -> bool:
        return self._started and not self._zlib.eof

    def portions(self, data: bytes) -> Iterator[bytes]:
        while data:
            try:
                portion = self._zlib.decompress(data, _PORTION)
            except zlib.error:
                if self._started or not self._raw_allowed:
                    raise
                self._zlib = zlib.decompressobj(-15)  # some servers send deflate without its frame
                self._started = True
                continue
            self._started = True
            if portion:
                yield portion
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:
                data = self._zlib.unused_data
                if data:  # gzip members may follow one another (RFC 1952 section 2.2)
                    self._zlib = zlib.decompressobj(47)
                    self._started = False


def _too_big(max_bytes: int) -> StepError:
    return StepError(
        f"the answer is larger than max_bytes = {max_bytes:,} bytes".replace(",", " "),
        retryable=False,
    )
