"""What a script's job says to the API and makes of its answers; `client` carries the words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Self, TypeVar
from uuid import uuid4

from nomaflow.errors import Code
from nomaflow.outside import address, calls
from nomaflow.outside.calls import Call
from nomaflow.outside.ids import run_id
from nomaflow.outside.refusals import ClientError

T = TypeVar("T")
Record = dict[str, Any]

log = logging.getLogger("nomaflow.client")

LONGEST_MESSAGE = 4_000
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
        return calls.brief(call) if brief else call

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
        return calls.brief(call)

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


def _sendable(text: str) -> str:
    """Leave out what no database takes: an error's text may quote anything."""
    return text.replace("\0", "").encode(errors="replace").decode()


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
