"""A sync from its first page to its last: read, mapped, written, and kept in mind on the way."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from nomaflow.connectors.sql import SqlConnector
from nomaflow.errors import ClaimLostError, StepError
from nomaflow.language.functions import rfc3339
from nomaflow.steps.base import StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.syncing import pages, targets
from nomaflow.steps.syncing.answers import Reading
from nomaflow.steps.syncing.fetching import Fetcher
from nomaflow.steps.syncing.keeping import Bookkeeper
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.mapping import Batch, ItemMap
from nomaflow.steps.syncing.pages import Gap, Turn
from nomaflow.steps.syncing.paging import LyingApiError, Paging, Place
from nomaflow.steps.syncing.settings import Paginate
from nomaflow.steps.syncing.sync_log import SyncLog, sync_id
from nomaflow.steps.syncing.tally import Course, Tally
from nomaflow.steps.syncing.wishes import Wishes
from nomaflow.steps.syncing.writing import Writer

MOST_FAILED = 1_000
"""So many batches are kept for a retry; when more fail, something else is wrong."""
LINE_SECONDS = 5.0
"""A line for a page is written into the log at most so often."""
_PLACE_IS_GONE = frozenset({400, 404, 410, 422})
WHOLE = Paginate(type="link_header", max_pages=1)
"""The pages of an API that has none."""


@dataclass(slots=True)
class _Sync:
    """One try of one sync."""

    ctx: StepRunContext
    wishes: Wishes
    writer: Writer
    tally: Tally
    books: Bookkeeper
    mapping: ItemMap
    _said_at: float = 0.0

    async def read_all(self) -> None:
        """Read and write every page from where the last try came to."""
        tally, patient = self.tally, self.wishes.on_error == "continue"
        paging = Paging(self.wishes.paginate or WHOLE, tally.fullest, skipped=tally.unread > 0)
        start, seen = tally.follows or paging.first(), tally.records + tally.missed
        fetcher = fetcher_of(self.ctx, self.wishes, paging)
        turns = pages.in_order(paging, fetcher.fetch, start, seen, patient=patient)
        try:
            async with aclosing(turns):
                async for turn in turns:
                    if isinstance(turn, Gap):
                        request = fetcher.kept(turn.place)
                        last = self._is_last(turn.place.number, turn.follows)
                        await self._leave_out(turn, request, last=last)
                    else:
                        tally.fullest = paging.fullest
                        last = self._is_last(turn.page.place.number, turn.follows)
                        await self._write_page(turn, last=last)
        except StepError as error:
            tally.stop(None if tally.ended else tally.pages + tally.unread + 1, None, error.message)
            if isinstance(error, LyingApiError):
                raise LyingApiError(error.message + self._so_far()) from None
            raise
        await self.books.settled()

    def _is_last(self, number: int, follows: Place | None) -> bool:
        most = self.wishes.paginate.max_pages if self.wishes.paginate else 1
        reached = number == most
        self.tally.cut = reached and follows is not None and self.wishes.paginate is not None
        return reached or follows is None

    async def _leave_out(self, gap: Gap, request: dict[str, Any], *, last: bool) -> None:
        """Go on without a page; it is kept with the page after it, or as the last one."""
        tally = self.tally
        self._refuse_more_failures(f"page {gap.place.number}", gap.error)
        tally.lost(gap.place.number, [], gap.error.message, request)
        tally.missed += gap.items
        tally.follows, tally.ended = gap.follows, last
        self.ctx.log.warning(f"{gap.error.message}; the page is left out and kept for a retry")
        if last:
            await self.books.page_done(tally)

    def _refuse_more_failures(self, where: str, error: StepError) -> None:
        if self.tally.failed >= MOST_FAILED:
            raise _at(where, error, f"; {MOST_FAILED:,} batches have failed before") from None

    async def _write_page(self, turn: Turn, *, last: bool) -> None:
        page, tally, size = turn.page, self.tally, self.wishes.batch_size
        course = Course.of(
            tally.batches, len(page.items), size, seen=turn.seen, total=page.total, last=last
        )
        for batch in await self.mapping.batches(page.items, size):
            await self._write_batch(batch, page.place.number)
            self.ctx.progress(
                tally.records, course.total, "records", **course.progress(tally.batches)
            )
        tally.pages += 1
        tally.follows, tally.ended = turn.follows, last
        self._say(turn, last=last)
        await self.books.page_done(tally)

    async def _write_batch(self, batch: Batch, page: int) -> None:
        tally = self.tally
        try:
            if batch.error is not None:
                raise StepError(batch.error, retryable=False)
            written = await self.writer.write(batch.columns)
        except StepError as error:
            number = tally.batches + 1
            where = f"page {page}, batch {number}"
            most = tally.failed >= MOST_FAILED
            if error.category != "error" or self.wishes.on_error == "stop" or most:
                tally.stop(page, number, error.message)
            if error.category != "error":  # the target is gone: every batch would fail
                raise _at(where, error) from None
            if self.wishes.on_error == "stop":
                raise _at(where, error, self._so_far()) from None
            self._refuse_more_failures(where, error)
            tally.lost(page, batch.items, error.message)
            self.ctx.log.warning(f"{where}: {error.message}")
        else:
            tally.wrote(len(batch.items), written)
            watermark = self.wishes.watermark
            if watermark is not None and watermark.column is not None:
                tally.largest.see(batch.columns[list(self.wishes.map).index(watermark.column)])

    def _so_far(self) -> str:
        written = self.tally.inserted + self.tally.updated
        return f"; {counted(written)} of earlier batches stay written" if written else ""

    def _say(self, turn: Turn, *, last: bool) -> None:
        now = asyncio.get_running_loop().time()
        number, items = turn.page.place.number, counted(len(turn.page.items), "item")
        of = f" · {turn.seen:,} of {turn.page.total:,}" if turn.page.total else ""
        words = f"page {number}: {items}{of}"
        if last or now - self._said_at >= LINE_SECONDS:
            self._said_at = now
            self.ctx.log.info(words)
        else:
            self.ctx.log.debug(words)


async def carry_out(ctx: StepRunContext, wishes: Wishes) -> StepResult:
    """Do the whole sync, or the rest of it."""
    connectors = await _opened(ctx, wishes)
    log = await _log_of(ctx, wishes, connectors)
    tally = Tally(fingerprint(wishes), Largest())
    try:
        writer = await targets.open_writer(
            connectors[wishes.target.connector], wishes.target, list(wishes.map)
        )
        await _read(ctx, wishes, writer, tally)
    except StepError as error:
        tally.stop(None, None, error.message)
        error.output = tally.output()
        if log is not None and not isinstance(error, ClaimLostError):
            with contextlib.suppress(StepError):  # what went wrong first is what counts
                await log.write("failed", error.output)
        raise
    output = tally.output()
    if log is not None:
        await log.write("partial" if tally.failed else "completed", output)
    return result_of(ctx, wishes, tally, output)


async def _read(ctx: StepRunContext, wishes: Wishes, writer: Writer, tally: Tally) -> None:
    resumed = tally.go_on_from(await ctx.checkpoint())
    if resumed:
        at = "the end" if tally.ended else f"page {tally.pages + tally.unread + 1}"
        ctx.log.info(f"goes on at {at}, after {counted(tally.records, 'record')}")
    else:
        await ctx.begin_anew()
    if tally.ended:
        return
    before = tally.pages
    try:
        await _read_on(ctx, wishes, writer, tally)
    except StepError as error:
        if not resumed or tally.pages > before or error.http_status not in _PLACE_IS_GONE:
            raise
        # A cursor or link may not live for long; what was written is written again.
        ctx.log.warning(f"{error.message}; the place is no longer there, so the sync begins anew")
        tally.begin_anew()
        await ctx.begin_anew()
        await _read_on(ctx, wishes, writer, tally)


async def _read_on(ctx: StepRunContext, wishes: Wishes, writer: Writer, tally: Tally) -> None:
    async with Bookkeeper(ctx) as books:
        mapping = ItemMap(wishes.map, ctx.params)
        await _Sync(ctx, wishes, writer, tally, books, mapping).read_all()


async def _opened(ctx: StepRunContext, wishes: Wishes) -> dict[str, SqlConnector]:
    """The connectors it writes to, each once: a pool may have a single connection."""
    names = {wishes.target.connector}
    if wishes.log_table is not None:
        names.add(wishes.log_table.connector)
    return {name: await ctx.sql(name) for name in sorted(names)}


def result_of(
    ctx: StepRunContext, wishes: Wishes, tally: Tally, output: dict[str, Any]
) -> StepResult:
    """What the step answers: the counts, what was left undone, and the watermark it proposes."""
    reason = None
    if tally.failed:
        reason = f"{tally.failures()} failed and can be retried"
    if tally.cut:
        ctx.log.warning("max_pages was reached, and there is more; the watermark stays")
    marks = {} if reason or tally.cut else _marks(ctx, wishes, tally)
    return StepResult(
        output, tally.summary(), tally.inserted + tally.updated, reason=reason, watermarks=marks
    )


def _marks(ctx: StepRunContext, wishes: Wishes, tally: Tally) -> dict[str, str]:
    watermark = wishes.watermark
    match watermark.value if watermark else None:
        case None:
            return {}
        case "run_start":
            moment = ctx.started_at
        case "completed_at":
            moment = datetime.now(UTC)
        case _:
            assert watermark is not None  # noqa: S101  it has a value
            known = Largest(ctx.state.get(watermark.name))
            known.see([tally.largest.value])
            return {} if known.value is None else {watermark.name: known.value}
    assert watermark is not None  # noqa: S101  it has a value
    # Down to the millisecond: a little earlier reads a little twice, later would miss something.
    exact = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return {watermark.name: rfc3339(exact)}


def fetcher_of(ctx: StepRunContext, wishes: Wishes, paging: Paging) -> Fetcher:
    """What asks the API for pages."""
    client = ctx.http(wishes.request.connector)
    reading = Reading(wishes.items, paging.settings)
    return Fetcher(wishes.request, client, paging, reading, ctx)


def fingerprint(wishes: Wishes) -> str:
    """Tell this sync from one that would read something else, as after a moved watermark."""
    request = wishes.request
    parts = [request.connector, request.url, request.method, request.query, request.body]
    parts += [wishes.items, wishes.paginate and wishes.paginate.model_dump(), wishes.batch_size]
    return hashlib.blake2b(to_json(parts, fallback=str), digest_size=16).hexdigest()


async def _log_of(
    ctx: StepRunContext, wishes: Wishes, connectors: Mapping[str, SqlConnector]
) -> SyncLog | None:
    if wishes.log_table is None:
        return None
    connector = connectors[wishes.log_table.connector]
    log = SyncLog(connector, wishes.log_table, sync_id(ctx.run_id, ctx.position))
    await log.check()
    return log


def _at(where: str, error: StepError, so_far: str = "") -> StepError:
    return StepError(
        f"{where}: {error.message}{so_far}",
        category=error.category,
        retryable=error.retryable,
    )
