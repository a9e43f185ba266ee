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

from nomaflow.outside.api_client import Client, ClientError
from nomaflow.outside.outside_job import Call, Record, Words, told

__all__ = ["AsyncJob", "Client", "ClientError", "Job"]

T = TypeVar("T")


class Job(Words):
    """One ETL job of a script.

    `url` and `auth` (a token) default to NOMAFLOW_URL and NOMAFLOW_TOKEN, or a running
    `nomaflow up`. Each call raises ClientError with the API's sentence. As a context manager it
    starts the job, and records success, or the exception as an error before it goes on.
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
        """Say that the script lives; a message becomes a line of the run's log."""
        return self._ask(self.beating(message))

    def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """Report the end, `success` or `error`; ValueError for any other word."""
        return self._ask(self.resulting(result, message, records_processed))

    def delete(self, confirm: str) -> int:
        """Delete the history of this name alone, which `confirm` repeats; how many runs went."""
        return self._ask(self.deleting(confirm))

    def _ask(self, call: Call[T]) -> T:
        with httpx.Client(**self.options) as http:
            for one in self.tries(call):
                time.sleep(one.wait)
                try:
                    response = http.post(self.place.graphql, json=one.body)
                except httpx.TransportError as error:
                    one.failed(error)
                    continue
                counts, meaning = one.answered(response)
                if counts:
                    return meaning  # type: ignore[return-value]
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
        if error is None:
            self.result("success")
        else:
            self.result("error", told(error))


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
        return await self._ask(self.beating(message))

    async def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """As Job.result."""
        return await self._ask(self.resulting(result, message, records_processed))

    async def delete(self, confirm: str) -> int:
        """As Job.delete."""
        return await self._ask(self.deleting(confirm))

    async def _ask(self, call: Call[T]) -> T:
        async with httpx.AsyncClient(**self.options) as http:
            for one in self.tries(call):
                await asyncio.sleep(one.wait)
                try:
                    response = await http.post(self.place.graphql, json=one.body)
                except httpx.TransportError as error:
                    one.failed(error)
                    continue
                counts, meaning = one.answered(response)
                if counts:
                    return meaning  # type: ignore[return-value]
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
        if error is None:
            await self.result("success")
        else:
            await self.result("error", told(error))
