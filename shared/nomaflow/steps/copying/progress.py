"""How far a copy has come, in numbers for listeners and in a line for the log."""

from __future__ import annotations

import time

from nomaflow.steps.base import StepRunContext

_EVENT_SECONDS = 0.25
_LINE_SECONDS = 1.0
_MINUTE = 60


class Progress:
    """Tells listeners four times a second and the log once a second.

    `total` is what the source's catalogue believes; the rest of the way is told by it.
    """

    def __init__(self, ctx: StepRunContext, total: int | None, batch_size: int) -> None:
        self.total = total
        self._ctx = ctx
        self._batch = batch_size
        self._started = self._event = self._line = time.monotonic()

    def __call__(self, rows: int) -> None:
        now = time.monotonic()
        if now - self._event < _EVENT_SECONDS:
            return
        self._event = now
        self._tell(rows, self.total, last=False)
        if now - self._line >= _LINE_SECONDS:
            self._line = now
            self._ctx.log.info(self._sentence(rows, self.total, last=False))

    def finish(self, rows: int) -> None:
        """Every row has passed; the count is exact now."""
        self._tell(rows, rows, last=True)
        self._ctx.log.info(self._sentence(rows, rows, last=True))

    def _tell(self, rows: int, total: int | None, *, last: bool) -> None:
        rate = self._rate(rows)
        left = None if total is None or not rate else max(total - rows, 0) / rate
        self._ctx.progress(
            rows,
            total,
            "rows",
            self._sentence(rows, total, last=last),
            batch=-(-rows // self._batch),
            batches=None if total is None else -(-max(total, rows) // self._batch),
            rows_per_second=round(rate),
            seconds_left=None if left is None else round(left, 1),
            is_last=last,
        )

    def _rate(self, rows: int) -> float:
        return rows / max(time.monotonic() - self._started, 0.001)

    def _sentence(self, rows: int, total: int | None, *, last: bool) -> str:
        rate = self._rate(rows)
        batches = f" of {-(-max(total, rows) // self._batch)}" if total else ""
        about = "" if last else "about "
        said = (
            f"batch {-(-rows // self._batch)}{batches} · {about}{rows:,} rows · {rate:,.0f} rows/s"
        )
        if not last and total and rate and total > rows:
            said += f" · about {_duration((total - rows) / rate)} left"
        return said.replace(",", " ")


class Sum:
    """Several streams of one copy, heard as one."""

    def __init__(self, heard: Progress, streams: int) -> None:
        self._heard = heard
        self._rows = [0] * streams

    def part(self, number: int) -> _Part:
        """What stream `number` tells."""
        return _Part(self, number)

    def tell(self, number: int, rows: int) -> None:
        """Stream `number` has come so far."""
        self._rows[number] = rows
        self._heard(sum(self._rows))


class _Part:
    def __init__(self, whole: Sum, number: int) -> None:
        self._whole = whole
        self._number = number

    def __call__(self, rows: int) -> None:
        self._whole.tell(self._number, rows)


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if minutes < _MINUTE else f"{minutes / _MINUTE:.1f} h"
