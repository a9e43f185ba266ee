"""The messages that answer one search, cut out of the bytes as they come."""

from __future__ import annotations

from typing import Protocol

from nomaflow.connectors.ldap import ber as ldap_ber
from nomaflow.connectors.ldap.ber import BerError, Frame
from nomaflow.errors import StepError

CHUNK_BYTES = 2 * 1024 * 1024
"""About so much is held at once, whatever the size of a page; one message may be larger."""
CHUNK_ENTRIES = 5_000


class Source(Protocol):
    """Where the bytes come from, and the words for what they should not be."""

    def receive(self) -> bytes: ...

    def told(self, data: bytes, frame: Frame) -> StepError: ...

    def strange(self, error: BerError) -> StepError: ...


class Answer:
    """What the server says to the request of that number; it may not ask for more meanwhile."""

    def __init__(self, source: Source, number: int) -> None:
        self._source, self._number = source, number
        self._rest = bytearray()

    def receive(self) -> tuple[bytes, list[Frame]]:
        """Messages and the bytes that hold them: up to the result, or about one chunk."""
        rest = self._rest
        frames: list[Frame] = []
        at = 0
        while True:
            try:
                new = ldap_ber.frames(rest, at)
            except BerError as error:
                raise self._source.strange(error) from None
            for frame in new:
                if frame.id != self._number:
                    raise self._source.told(bytes(rest), frame)
            if new:
                frames += new
                at = new[-1].after
                over = new[-1].kind == ldap_ber.DONE
                if over or at >= CHUNK_BYTES or len(frames) >= CHUNK_ENTRIES:
                    break
            rest += self._source.receive()
        data = bytes(memoryview(rest)[:at])
        del rest[:at]
        if frames[-1].kind == ldap_ber.DONE and rest:
            raise self._source.strange(BerError("more than was asked for"))
        return data, frames
