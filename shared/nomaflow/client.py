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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from uuid import uuid4

import httpx

from nomaflow import address
from nomaflow.api_client import Client, ClientError, data_of, unreachable
from nomaflow.errors import Code

__all__ = ["AsyncJob", "Client", "ClientError", "Job"]

T = TypeVar("T")
Record = dict[str, Any]

TIMEOUT_SECONDS = 30.0
LONGEST_MESSAGE = 4_000
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each new try while the API is away: a restart of it must not fail a script."""
WORDS = {"success": "SUCCEEDED", "error": "FAILED"}
SHOWN = {"RUNNING": "in_progress", "SUCCEEDED": "success"}

_RUN = """run { id jobName status startedAt finishedAt
  external { source destination recordsProcessed message } } errors { code message path }"""
_START = (
    f"mutation ($input: ExternalRunStartInput!) {{ externalRunStart(input: $input) {{ {_RUN} }} }}"
)
_BEAT = f"""mutation ($run: ID!, $message: String) {{
  externalRunHeartbeat(run: $run, message: $message) {{ {_RUN} }} }}"""
_FINISH = f"""mutation ($input: ExternalRunFinishInput!) {{
  externalRunFinish(input: $input) {{ {_RUN} }} }}"""
_DELETE = """mutation ($job: String!) {
  runsDelete(job: $job, confirm: $job) { deleted errors { code message path } } }"""
_RECENT = """query ($job: String!, $status: RunStatus, $source: String, $destination: String) {
  mostRecent(job: $job, status: $status, source: $source, destination: $destination) { unix } }"""


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """One request, and what its answer means; `done` is the status that a lost answer left."""

    document: str
    variables: Mapping[str, Any]
    read: Callable[[Any], T]
    done: str | None = None


class _Words:
    """What a job says to the API and makes of its answers, whoever carries them."""

    def __init__(
        self,
        name: str,
        url: str | None = None,
        source: str = "",
        destination: str = "",
        auth: str | None = None,
        *,
        heartbeat_seconds: float | None = None,
        idempotency_key: str | None = None,
        client: str = "python",
    ) -> None:
        self.name = name
        self.source = source
        self.destination = destination
        self.records_processed = 0
        self.message: str | None = None
        self.record: Record | None = None
        self._heartbeat_seconds = heartbeat_seconds
        self._key = idempotency_key
        self._place = address.find(url)
        token = auth or self._place.token
        headers = {"Nomaflow-Client": client}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._options: dict[str, Any] = {
            "headers": headers,
            "timeout": TIMEOUT_SECONDS,
            "trust_env": not self._place.is_loopback,
        }

    def resume(self, run: str) -> Self:
        """Go on with a run that was started elsewhere, by its id."""
        self.record = {"id": run}
        return self

    def _start(self) -> _Call[Record]:
        wish = {
            "job": self.name,
            "source": self.source,
            "destination": self.destination,
            "heartbeatSeconds": self._heartbeat_seconds,
            "idempotencyKey": self._key or uuid4().hex,  # a lost answer must not start two
        }
        return _Call(_START, {"input": wish}, self._kept)

    def _most_recent(self, status: str) -> _Call[float | None]:
        chosen = {
            "job": self.name,
            "status": _word(status),
            "source": self.source or None,
            "destination": self.destination or None,
        }
        return _Call(_RECENT, chosen, lambda found: found["unix"] if found else None)

    def _heartbeat(self, message: str | None) -> _Call[Record]:
        return _Call(_BEAT, {"run": self._begun("heartbeat()"), "message": message}, self._kept)

    def _result(self, result: str, message: str | None, records: int | None) -> _Call[Record]:
        status = _word(result)
        wish = {
            "run": self._begun("result()"),
            "status": status,
            "message": self.message if message is None else message,
            "recordsProcessed": self.records_processed if records is None else records,
        }
        return _Call(_FINISH, {"input": wish}, self._kept, done=status)

    def _delete(self, confirm: str) -> _Call[int]:
        if confirm != self.name:
            raise ValueError(f"confirm must repeat the name {self.name!r}; nothing was deleted")
        return _Call(_DELETE, {"job": self.name}, lambda answer: answer["deleted"])

    def _begun(self, call: str) -> str:
        if self.record is None:
            raise RuntimeError(f"call start() before {call}")
        return str(self.record["id"])

    def _kept(self, answer: Mapping[str, Any]) -> Record:
        """Write the record in the words of seed 004's table."""
        run = answer["run"]
        outside = run["external"]
        records = outside["recordsProcessed"]
        self.record = {
            "id": run["id"],
            "name": run["jobName"],
            "start_date": run["startedAt"],
            "end_date": run["finishedAt"],
            "message": outside["message"],
            "status": SHOWN.get(run["status"], "error"),
            "records_processed": None if records is None else int(records),
            "source": outside["source"],
            "destination": outside["destination"],
        }
        return self.record

    def _tries(self, call: _Call[T]) -> Iterator[_Try[T]]:
        for wait in (0.0, *WAITS):
            yield _Try(self._place, call, wait, again=wait > 0, last=wait == WAITS[-1])


@dataclass(slots=True)
class _Try(Generic[T]):
    """One try of a call, after a wait in seconds."""

    place: address.Address
    call: _Call[T]
    wait: float
    again: bool
    last: bool

    @property
    def body(self) -> dict[str, Any]:
        return {"query": self.call.document, "variables": dict(self.call.variables)}

    def failed(self, error: httpx.TransportError) -> None:
        """Let a connection that broke pass, but the last time."""
        if self.last:
            raise unreachable(self.place, f"does not answer ({error})") from None

    def answered(self, response: httpx.Response) -> tuple[bool, T | None]:
        """Read an answer: whether it counts, and its meaning. Raises ClientError."""
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not self.last:
            return False, None
        payload = next(iter(data_of(self.place, response).values()))
        problems = (payload or {}).get("errors") or []
        if problems and not (self.again and self._is_done(payload, problems[0])):
            first = problems[0]
            raise ClientError(
                Code(first["code"]), first["message"], tuple(first["path"]), reported=first["code"]
            )
        return True, self.call.read(payload)

    def _is_done(self, payload: Mapping[str, Any], problem: Mapping[str, Any]) -> bool:
        """Tell whether the try before this one was heard and only its answer lost."""
        ended = payload.get("run") and payload["run"]["status"] == self.call.done
        return problem["code"] == Code.INVALID_STATE and bool(ended)


class Job(_Words):
    """One ETL job of a script.

    `url` and `auth` (a token) default to NOMAFLOW_URL and NOMAFLOW_TOKEN, or a running
    `nomaflow up`. Each call raises ClientError with the API's sentence. As a context manager it
    starts the job, and records success, or the exception as an error before it goes on.
    """

    def start(self) -> Record:
        """Register the run, which begins now; the record, with `status` in_progress."""
        return self._ask(self._start())

    def most_recent(self, status: str = "success") -> float | None:
        """Start of the newest run that ended so, in seconds since 1970 (UTC); None if none did.

        The start and not the end, so that rows changed while that run read are read again.
        """
        return self._ask(self._most_recent(status))

    def heartbeat(self, message: str | None = None) -> Record:
        """Say that the script lives; a message becomes a line of the run's log."""
        return self._ask(self._heartbeat(message))

    def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """Report the end, `success` or `error`; ValueError for any other word."""
        return self._ask(self._result(result, message, records_processed))

    def delete(self, confirm: str) -> int:
        """Delete the history of this name alone, which `confirm` repeats; how many runs went."""
        return self._ask(self._delete(confirm))

    def _ask(self, call: _Call[T]) -> T:
        with httpx.Client(**self._options) as http:
            for one in self._tries(call):
                time.sleep(one.wait)
                try:
                    response = http.post(self._place.graphql, json=one.body)
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
            self.result("error", _told(error))


class AsyncJob(_Words):
    """The same calls for a script that runs on asyncio."""

    async def start(self) -> Record:
        """As Job.start."""
        return await self._ask(self._start())

    async def most_recent(self, status: str = "success") -> float | None:
        """As Job.most_recent."""
        return await self._ask(self._most_recent(status))

    async def heartbeat(self, message: str | None = None) -> Record:
        """As Job.heartbeat."""
        return await self._ask(self._heartbeat(message))

    async def result(
        self, result: str, message: str | None = None, records_processed: int | None = None
    ) -> Record:
        """As Job.result."""
        return await self._ask(self._result(result, message, records_processed))

    async def delete(self, confirm: str) -> int:
        """As Job.delete."""
        return await self._ask(self._delete(confirm))

    async def _ask(self, call: _Call[T]) -> T:
        async with httpx.AsyncClient(**self._options) as http:
            for one in self._tries(call):
                await asyncio.sleep(one.wait)
                try:
                    response = await http.post(self._place.graphql, json=one.body)
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
            await self.result("error", _told(error))


def _word(result: str) -> str:
    if result not in WORDS:
        raise ValueError(f"a result is 'success' or 'error', not {result!r}")
    return WORDS[result]


def _told(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:LONGEST_MESSAGE]
