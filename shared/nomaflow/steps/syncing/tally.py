"""What a sync has done so far: counted, told as progress, and kept so that it can go on from it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nomaflow.language.functions import rfc3339
from nomaflow.steps.counting import counted
from nomaflow.steps.failed_items import FailedItems
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.paging import Place
from nomaflow.steps.syncing.writing import Written

ERRORS_SHOWN = 100
"""So many errors are listed in the output; all of them are kept with their batches."""
LONGEST_ERROR = 500
_FORM = 1


@dataclass(slots=True)
class Tally:
    """Counts of a whole sync, its earlier tries included; `request` tells one sync from another."""

    request: str
    largest: Largest
    records: int = 0
    pages: int = 0
    batches: int = 0
    inserted: int = 0
    updated: int = 0
    failed: int = 0
    unread: int = 0
    """Pages that could not be fetched; each counts as a failed batch without items."""
    missed: int = 0
    """Items that those pages may hold."""
    fullest: int = 0
    """Items of the largest page."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    follows: Place | None = None
    """Where the next page is; None at the beginning and, with `ended`, at the end."""
    ended: bool = False
    cut: bool = False
    """True when `max_pages` was reached and there was more."""
    waiting: list[FailedItems] = field(default_factory=list)
    """Batches that failed since the last checkpoint."""
    stopped: dict[str, Any] | None = None
    """The error that ended this try. No checkpoint keeps it: the next try may well get past it."""
    _before_seconds: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    def wrote(self, count: int, written: Written) -> None:
        """Count a batch that is in the target."""
        self._counted(count)
        self.inserted += written.inserted
        self.updated += written.updated

    def lost(
        self,
        page: int | None,
        items: Sequence[Any],
        error: str,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Count a batch that could not be written, and keep it for a retry.

        With `request` it is a page that could not be fetched.
        """
        self._counted(len(items))
        self.failed += 1
        self.unread += request is not None
        self.waiting.append(FailedItems(page, self.batches, items, error, request))
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append(_error(page, self.batches, error))

    def stop(self, page: int | None, batch: int | None, error: str) -> None:
        """Note what ends the sync, and where; the first to be noted is the cause."""
        if self.stopped is None:
            self.stopped = _error(page, batch, error)

    def _counted(self, count: int) -> None:
        self.batches += 1
        self.records += count

    @property
    def seconds(self) -> float:
        """Time spent, in all tries."""
        return round(self._before_seconds + time.monotonic() - self._began, 3)

    def output(self) -> dict[str, Any]:
        """The step's output; also `Run.sync` of the API.

        What stopped a sync is one of its errors (seed 003's `error_count`), and counts.
        """
        stopped = [self.stopped] if self.stopped else []
        told = {
            "records": self.records,
            "pages": self.pages,
            "batches": self.batches,
            "inserted": self.inserted,
            "updated": self.updated,
            "failed_batches": self.failed + len(stopped),
            "errors": self.errors + stopped,
            "duration_seconds": self.seconds,
            "completed_at": rfc3339(datetime.now(UTC)),
        }
        return {**told, "truncated": True} if self.cut else told

    def summary(self) -> str:
        """`250 records · 3 pages · 250 new · 0 changed`."""
        said = [counted(self.records, "record")]
        if self.pages:
            said.append(counted(self.pages, "page"))
        said += [f"{self.inserted} new", f"{self.updated} changed"]
        if self.failed:
            said.append(f"{self.failures()} failed")
        return " · ".join(said)

    def failures(self) -> str:
        """`2 batches and 1 page`: what was left undone."""
        batches = self.failed - self.unread
        said = [counted(batches, "batch", "batches")] if batches else []
        said += [counted(self.unread, "page")] if self.unread else []
        return " and ".join(said)

    def checkpoint(self) -> dict[str, Any]:
        """What another try needs to go on after the last whole page."""
        return {
            "form": _FORM,
            "request": self.request,
            "follows": self.follows.as_json() if self.follows else None,
            "ended": self.ended,
            "cut": self.cut,
            "records": self.records,
            "pages": self.pages,
            "batches": self.batches,
            "inserted": self.inserted,
            "updated": self.updated,
            "failed": self.failed,
            "unread": self.unread,
            "missed": self.missed,
            "fullest": self.fullest,
            "errors": self.errors,
            "largest": self.largest.value,
            "seconds": self.seconds,
        }

    def begin_anew(self) -> None:
        """Forget what was counted: nothing of it is where it was."""
        fresh = Tally(self.request, Largest())
        for name in self.__slots__:
            if name != "_began":
                setattr(self, name, getattr(fresh, name))

    def go_on_from(self, stored: Mapping[str, Any] | None) -> bool:
        """Take over what an earlier try kept; False when that was not the same sync."""
        if not stored or stored.get("form") != _FORM or stored.get("request") != self.request:
            return False
        follows = stored["follows"]
        self.follows = Place.of_json(follows) if follows else None
        self.ended, self.cut = stored["ended"], stored["cut"]
        self.records, self.pages = stored["records"], stored["pages"]
        self.batches, self.failed = stored["batches"], stored["failed"]
        self.inserted, self.updated = stored["inserted"], stored["updated"]
        self.unread, self.missed, self.fullest = (
            stored.get(name, 0) for name in ("unread", "missed", "fullest")
        )
        self.errors = list(stored["errors"])
        self.largest.value = stored["largest"]
        self._before_seconds = stored["seconds"]
        return True


def _error(page: int | None, batch: int | None, error: str) -> dict[str, Any]:
    at = rfc3339(datetime.now(UTC))
    return {"page": page, "batch": batch, "error": error[:LONGEST_ERROR], "at": at}


@dataclass(frozen=True, slots=True)
class Course:
    """How many batches there will be in all, seen from the page at hand; None: nobody knows."""

    total: int | None
    batches: int | None

    @classmethod
    def of(
        cls, done: int, items: int, size: int, *, seen: int, total: int | None, last: bool
    ) -> Course:
        """Reckon it: `done` batches before this page of `items`, of which `size` make a batch."""
        here = done + math.ceil(items / size)
        if last:
            return cls(seen if total is None else total, here)
        if total is None or not items:
            return cls(total, None)
        full, rest = divmod(max(total - seen, 0), items)
        return cls(total, here + full * math.ceil(items / size) + math.ceil(rest / size))

    def progress(self, batch: int) -> dict[str, Any]:
        """Seed 003's `{batchNum, totalBatches, progress, isLastBatch}` in the API's words."""
        if self.batches is None:
            return {"batch": batch, "batches": None, "percent": None, "last": False}
        percent = round(100 * batch / self.batches, 1) if self.batches else 100.0
        return {
            "batch": batch,
            "batches": self.batches,
            "percent": min(percent, 100.0),
            "last": batch >= self.batches,
        }
