"""What a child prints, as lines: all of it at a human pace, else the start, a pace, and the end."""

from __future__ import annotations

from collections import deque

BURST = 1024 * 1024
PER_SECOND = 64 * 1024
_LONGEST = 16 * 1024
_TAIL = 64 * 1024
# Even an empty line costs history a row.
_LINE_COST = 64


class Capture:
    """One stream's bytes in, lines out, never more than BURST and PER_SECOND bytes of them.

    What is too much is counted and said; its last 64 KB come at the end, since the last words
    of a process are the ones that explain it (SEC-P05).
    """

    def __init__(self, now: float) -> None:
        self._budget = float(BURST)
        self._then = now
        self._partial = b""
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped_bytes = 0
        self._dropped_lines = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """The lines that `data` completes and the budget allows."""
        self._budget = min(BURST, self._budget + (now - self._then) * PER_SECOND)
        self._then = now
        if self._dropped_bytes and self._budget < PER_SECOND:
            self._drop(data)
            return []
        lines = [self._marker()] if self._dropped_bytes else []
        *whole, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LONGEST:
            whole.append(self._partial)
            self._partial = b""
        for place, line in enumerate(whole):
            if self._budget <= 0:
                self._drop(b"\n".join([*whole[place:], self._partial]))
                self._partial = b""
                break
            self._budget -= len(line) + _LINE_COST
            lines.append(_text(line))
        return lines

    def finish(self) -> list[str]:
        """What is left when the stream has ended."""
        if not self._dropped_bytes:
            return [_text(self._partial)] if self._partial else []
        last = (b"".join(self._tail) + self._partial)[-_TAIL:].split(b"\n")
        shown = [_text(line) for line in last[1:] if line]
        return [self._marker(), *shown]

    def _drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)
        self._dropped_lines += data.count(b"\n")
        self._tail.append(data[-_TAIL:])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= _TAIL:
            self._tail_bytes -= len(self._tail.popleft())

    def _marker(self) -> str:
        words = f"[{self._dropped_lines} lines ({self._dropped_bytes} bytes) of output left out]"
        self._dropped_bytes = self._dropped_lines = self._tail_bytes = 0
        self._tail.clear()
        return words


def _text(line: bytes) -> str:
    text = line.removesuffix(b"\r")[:_LONGEST].decode("utf-8", "backslashreplace")
    more = len(line) - _LONGEST
    return f"{text} [{more} more bytes]" if more > 0 else text
