"""What a script's job says to the API and makes of its answers; `client` carries the words."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar
from uuid import uuid4

import httpx

from nomaflow.errors import Code
from nomaflow.outside import address
from nomaflow.outside.ids import run_id
from nomaflow.outside.refusals import ClientError, data_of, unreachable

T = TypeVar("T")
Record = dict[str, Any]

log = logging.getLogger("nomaflow.client")

TIMEOUT, CONNECT_TIMEOUT = 30.0, 5.0
PATIENCE = 31.0
"""Seconds after which no new try begins: so long may a restart of the API take."""
BRIEF_TIMEOUT = 5.0
BRIEF_PATIENCE = 2.0
"""The same of a sign of life, which must not hold up the work that it tells of."""
LONGEST_MESSAGE = 4_000
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each new try while the API is away: a restart of it must not fail a script."""
_AWAY = frozenset({502, 503, 504})
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
    """One request, and what its answer means; `done` is the status that a lost answer left.

    `otherwise` answers instead of an error, or raises it; None: it is raised.
    """

    document: str
    variables: Mapping[str, Any]
    read: Callable[[Any], T]
    done: str | None = None
    otherwise: Callable[[ClientError], T] | None = None
    patience: float = PATIENCE
    seconds: float = TIMEOUT

    @property
    def timeout(self) -> httpx.Timeout:
        """How long one try may take."""
        return httpx.Timeout(self.seconds, connect=min(self.seconds, CONNECT_TIMEOUT))


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
        required: bool = True,
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
        self.required = required
        self._begun_under = ""
        found = address.find(url)
        self.place = address.Address(found.url, auth, "`auth`") if auth else found
        headers = {"Nomaflow-Client": client}
        if self.place.token:
            headers["Authorization"] = f"Bearer {self.place.token}"
        self.options: dict[str, Any] = {
            "headers": headers,
            "trust_env": not self.place.is_loopback,
        }

    def resume(self, run: str) -> Self:
        """Go on with a run that was started elsewhere, by its id."""
        self.record = {"id": run}
        return self

    @property
    def unregistered(self) -> bool:
        """True when the script has begun and the API has not heard of it yet."""
        return self.record is not None and self.record["id"] is None

    def starting(self) -> Call[Record]:
        self._begun_under = self._key or uuid4().hex  # a lost answer must not start two
        now = datetime.now(UTC).isoformat()

        def unheard(error: ClientError) -> Record:
            if error.code is Code.INVALID:
                raise error  # it would be refused every time
            log.warning("the run is not registered: %s", error.message)
            self.record = self._provisional(now)
            return self.record

        return self._registering(None, unheard)

    def starting_late(self, *, brief: bool = False) -> Call[Record]:
        """Register the run that began while the API was away, with its true start."""
        kept = self.record or {}

        def unheard(error: ClientError) -> Record:
            log.warning("the run is still not registered: %s", error.message)
            return kept

        call = self._registering(kept["start_date"], unheard)
        return _brief(call) if brief else call

    def _registering(
        self, began: str | None, unheard: Callable[[ClientError], Record]
    ) -> Call[Record]:
        wish = {
            "job": self.name,
            "source": self.source,
            "destination": self.destination,
            "heartbeatSeconds": self._heartbeat_seconds,
            "idempotencyKey": self._begun_under,
            "startedAt": began,
        }
        return Call(_START, {"input": wish}, self._kept, None, self._unless_required(unheard))

    def _provisional(self, now: str) -> Record:
        record = dict.fromkeys(("id", "name", "start_date", "end_date", "message"))
        record |= {"name": self.name, "start_date": now, "status": "in_progress"}
        more = {"source": self.source, "destination": self.destination}
        return {**record, "records_processed": None, **more}

    def _unless_required(self, otherwise: Callable[[ClientError], T]) -> Any:
        return None if self.required else otherwise

    def recalling(self, status: str) -> Call[float | None]:
        chosen = {
            "job": self.name,
            "status": word(status),
            "source": self.source or None,
            "destination": self.destination or None,
        }
        return Call(_RECENT, chosen, lambda found: found["unix"] if found else None)

    def beating(self, message: str | None) -> Call[Record]:
        run = self._begun("heartbeat()")

        def unheard(error: ClientError) -> Record:
            # The work that it tells of matters more; that the run was ended does matter.
            if error.code is not Code.UNAVAILABLE:
                raise error
            log.warning("a sign of life was not heard: %s", error.message)
            assert self.record is not None  # noqa: S101  it has begun
            return self.record

        said = {"run": run, "message": message and _sendable(message)}
        call = Call(_BEAT, said, self._kept, None, unheard)
        return _brief(call)

    def resulting(self, result: str, message: str | None, records: int | None) -> Call[Record]:
        status = word(result)
        message = self.message if message is None else message
        wish = {
            "run": self._begun("result()"),
            "status": status,
            "message": message and _sendable(message),
            "recordsProcessed": self.records_processed if records is None else records,
        }
        return Call(_FINISH, {"input": wish}, self._kept, status, self._unless_required(self.lost))

    def lost(self, error: ClientError) -> Record:
        """Say where a person looks that the end of a run is not in history."""
        log.error("the end of the run was not recorded: %s", error.message)
        return self.record or {}

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
            "id": run_id(run["id"]),
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
        began = time.monotonic()
        for number, wait in enumerate((0.0, *WAITS)):
            yield Try(self.place, call, number, wait, began)


@dataclass(slots=True)
class Try(Generic[T]):
    """One try of a call, after a wait in seconds; `meaning` is what it came to."""

    place: address.Address
    call: Call[T]
    number: int
    wait: float
    began: float
    meaning: T | None = None

    @property
    def body(self) -> dict[str, Any]:
        return {"query": self.call.document, "variables": dict(self.call.variables)}

    @property
    def is_last(self) -> bool:
        """Whether the next one would begin too late, or there is none."""
        if self.number >= len(WAITS):
            return True
        return time.monotonic() - self.began + WAITS[self.number] > self.call.patience

    def settles(self, answer: httpx.Response | httpx.TransportError) -> bool:
        """Whether this answer, or that there is none, ends the call. Raises ClientError."""
        try:
            counts, self.meaning = self._read(answer)
        except ClientError as error:
            if self.call.otherwise is None:
                raise
            self.meaning = self.call.otherwise(error)
            return True
        return counts

    def _read(self, answer: httpx.Response | httpx.TransportError) -> tuple[bool, T | None]:
        if isinstance(answer, httpx.TransportError):
            if not self.is_last:
                return False, None
            why = str(answer) or type(answer).__name__
            raise unreachable(self.place, f"does not answer ({why})")
        if answer.status_code in _AWAY:
            if not self.is_last:
                return False, None
            raise unreachable(self.place, f"answers {answer.status_code}")
        payload = next(iter(data_of(self.place, answer).values()))
        problems = (payload or {}).get("errors") or []
        if problems and not (self.number and self._is_done(payload, problems[0])):
            first = problems[0]
            raise ClientError(
                Code(first["code"]), first["message"], tuple(first["path"]), reported=first["code"]
            )
        return True, self.call.read(payload)

    def _is_done(self, payload: Mapping[str, Any], problem: Mapping[str, Any]) -> bool:
        """Tell whether the try before this one was heard and only its answer lost."""
        ended = payload.get("run") and payload["run"]["status"] == self.call.done
        return problem["code"] == Code.INVALID_STATE and bool(ended)


def _sendable(text: str) -> str:
    """Leave out what no database takes: an error's text may quote anything."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _brief(call: Call[T]) -> Call[T]:
    return replace(call, patience=BRIEF_PATIENCE, seconds=BRIEF_TIMEOUT)


def word(result: str) -> str:
    if result not in WORDS:
        raise ValueError(f"a result is 'success' or 'error', not {result!r}")
    return WORDS[result]


def told(error: BaseException) -> str | None:
    """What a script's end says of it; None when it did not fail: it may call `sys.exit()`."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return None
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:LONGEST_MESSAGE]
