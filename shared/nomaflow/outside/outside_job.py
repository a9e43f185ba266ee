"""What a script's job says to the API and makes of its answers; `client` carries the words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from uuid import uuid4

import httpx

from nomaflow.errors import Code
from nomaflow.outside import address
from nomaflow.outside.api_client import ClientError, data_of, unreachable

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
class Call(Generic[T]):
    """One request, and what its answer means; `done` is the status that a lost answer left."""

    document: str
    variables: Mapping[str, Any]
    read: Callable[[Any], T]
    done: str | None = None


class Words:
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
        found = address.find(url)
        self.place = address.Address(found.url, auth, "`auth`") if auth else found
        headers = {"Nomaflow-Client": client}
        if self.place.token:
            headers["Authorization"] = f"Bearer {self.place.token}"
        self.options: dict[str, Any] = {
            "headers": headers,
            "timeout": TIMEOUT_SECONDS,
            "trust_env": not self.place.is_loopback,
        }

    def resume(self, run: str) -> Self:
        """Go on with a run that was started elsewhere, by its id."""
        self.record = {"id": run}
        return self

    def starting(self) -> Call[Record]:
        wish = {
            "job": self.name,
            "source": self.source,
            "destination": self.destination,
            "heartbeatSeconds": self._heartbeat_seconds,
            "idempotencyKey": self._key or uuid4().hex,  # a lost answer must not start two
        }
        return Call(_START, {"input": wish}, self._kept)

    def recalling(self, status: str) -> Call[float | None]:
        chosen = {
            "job": self.name,
            "status": word(status),
            "source": self.source or None,
            "destination": self.destination or None,
        }
        return Call(_RECENT, chosen, lambda found: found["unix"] if found else None)

    def beating(self, message: str | None) -> Call[Record]:
        return Call(_BEAT, {"run": self._begun("heartbeat()"), "message": message}, self._kept)

    def resulting(self, result: str, message: str | None, records: int | None) -> Call[Record]:
        status = word(result)
        wish = {
            "run": self._begun("result()"),
            "status": status,
            "message": self.message if message is None else message,
            "recordsProcessed": self.records_processed if records is None else records,
        }
        return Call(_FINISH, {"input": wish}, self._kept, done=status)

    def deleting(self, confirm: str) -> Call[int]:
        if confirm != self.name:
            raise ValueError(f"confirm must repeat the name {self.name!r}; nothing was deleted")
        return Call(_DELETE, {"job": self.name}, lambda answer: answer["deleted"])

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

    def tries(self, call: Call[T]) -> Iterator[Try[T]]:
        for wait in (0.0, *WAITS):
            yield Try(self.place, call, wait, again=wait > 0, last=wait == WAITS[-1])


@dataclass(slots=True)
class Try(Generic[T]):
    """One try of a call, after a wait in seconds."""

    place: address.Address
    call: Call[T]
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


def word(result: str) -> str:
    if result not in WORDS:
        raise ValueError(f"a result is 'success' or 'error', not {result!r}")
    return WORDS[result]


def told(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:LONGEST_MESSAGE]
