"""For scripts that load data on their own machines: register a run, read the last success.

    from nomaflow.client import Job

    with Job("permits_to_socrata", source="amanda", destination="socrata") as job:
        since = job.most_recent()              # seconds since 1970, or None: never succeeded yet
        job.records_processed = load(since)

The four calls are those of seed 004: `Job(...)`, `start()`, `most_recent()`, `result(...)`.
`Client` is the whole API, asynchronous.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self, TypeVar

import httpx

from nomaflow.outside.api_client import Client
from nomaflow.outside.calls import Call, tries
from nomaflow.outside.outside_job import Record, Words, told, word
from nomaflow.outside.refusals import ClientError

__all__ = ["AsyncJob", "Client", "ClientError", "Job"]

T = TypeVar("T")


class Job(Words):
    """One ETL job of a script.

    `url` and `auth` (a token) default to NOMAFLOW_URL and NOMAFLOW_TOKEN, or a running
    `nomaflow up`. Each call raises ClientError with the API's sentence; while the API is away it
    waits for half a minute before. With `required=False` the script goes on without its record:
    `start` and `result` then log what went wrong, and a run that could not be registered is at its
    next sign of life or at its end, with its true start.

    As a context manager it starts the job, and records success, or the exception as an error
    before it goes on. That this could not be recorded is logged (`nomaflow.client`) and never
    raised: what the script has done is done.
    """

    def start(self) -> Record:
        """Register the run, which begins now; the record, with `status` in_progress."""
        return self._ask(self.starting())

    def most_recent(self, status: str = "success") -> float | None:
        """Start of the newest run that ended so, in seconds since 1970 (UTC); None if none did.

        The start and not the end, so that rows changed while that run read are read again.
        """
        return self._ask(self.recalling(status))

    def heartbeat(self, message: str | None = None) -> Record:
        """Say that the script lives; a message becomes a line of the run's log.

        An API that does not answer within a few seconds is logged; ClientError (INVALID_STATE)
        when the run is over, as after somebody's abort.
        """
        if self.unregistered:
            return self._ask(self.starting_late(brief=True))
        return self._ask(self.beating(message))

    def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """Report the end, `success` or `error`; ValueError for any other word."""
        word(result)
        if self.unregistered and self._ask(self.starting_late())["id"] is None:
            return self.record or {}
        return self._ask(self.resulting(result, message, records_processed))

    def delete(self, confirm: str) -> int:
        """Delete the history of this name alone, which `confirm` repeats; how many runs went."""
        return self._ask(self.deleting(confirm))

    def _ask(self, call: Call[T]) -> T:
        with httpx.Client(**self.options) as http:
            for one in tries(self.place, call):
                time.sleep(one.wait)
                answer: httpx.Response | httpx.TransportError
                try:
                    answer = http.post(self.place.graphql, json=one.body, timeout=call.timeout)
                except httpx.TransportError as error:
                    answer = error
                if one.settles(answer):
                    return one.meaning  # type: ignore[return-value]
        raise AssertionError("the last try answers or raises")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        message = told(error) if error else None
        try:
            self.result("error" if message else "success", message)
        except ClientError as refusal:
            self.lost(refusal)


class AsyncJob(Words):
    """The same calls for a script that runs on asyncio."""

    async def start(self) -> Record:
        """As Job.start."""
        return await self._ask(self.starting())

    async def most_recent(self, status: str = "success") -> float | None:
        """As Job.most_recent."""
        return await self._ask(self.recalling(status))

    async def heartbeat(self, message: str | None = None) -> Record:
        """As Job.heartbeat."""
        if self.unregistered:
            return await self._ask(self.starting_late(brief=True))
        return await self._ask(self.beating(message))

    async def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """As Job.result."""
        word(result)
        if self.unregistered and (await self._ask(self.starting_late()))["id"] is None:
            return self.record or {}
        return await self._ask(self.resulting(result, message, records_processed))

    async def delete(self, confirm: str) -> int:
        """As Job.delete."""
        return await self._ask(self.deleting(confirm))

    async def _ask(self, call: Call[T]) -> T:
        async with httpx.AsyncClient(**self.options) as http:
            for one in tries(self.place, call):
                await asyncio.sleep(one.wait)
                sent = http.post(self.place.graphql, json=one.body, timeout=call.timeout)
                answer: httpx.Response | httpx.TransportError
                try:
                    answer = await sent
                except httpx.TransportError as error:
                    answer = error
                if one.settles(answer):
                    return one.meaning  # type: ignore[return-value]
        raise AssertionError("the last try answers or raises")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        message = told(error) if error else None
        try:
            await self.result("error" if message else "success", message)
        except ClientError as refusal:
            self.lost(refusal)
