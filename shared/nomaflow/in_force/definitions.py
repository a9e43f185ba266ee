"""Definitions by revision, read once: a revision never changes, so a parsed one may be kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nomaflow.errors import Code, NomaflowError
from nomaflow.job.spec import JobSpec
from nomaflow.store import jobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any
    from uuid import UUID

    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow

KEPT = 2_000
_known: OrderedDict[tuple[UUID, int], JobSpec] = OrderedDict()
_seen: OrderedDict[str, Seen] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as this program saw it in force last; it may have changed since."""

    id: UUID
    name: str
    revision: int
    spec: JobSpec


def of_job(job: JobRow) -> JobSpec:
    """Return the definition that is in force."""
    spec = _parsed((job.id, job.revision), job.definition)
    _seen[job.name] = Seen(job.id, job.name, job.revision, spec)
    if len(_seen) > KEPT:
        _seen.popitem(last=False)
    return spec


def seen(name: str) -> Seen | None:
    """Return the job of that name as it was seen last; whoever acts on it looks again."""
    return _seen.get(name)


async def of_run(connection: Connection | Database, job_id: UUID, revision: int) -> JobSpec:
    """Return the definition a run was born with (J15)."""
    key = (job_id, revision)
    if key in _known:
        return _parsed(key, {})
    found = await jobs.definition(connection, job_id, revision)
    if found is None:
        raise NomaflowError(
            Code.NOT_FOUND, f"revision {revision} of job {job_id} is not in the database"
        )
    return _parsed(key, found)


async def of_revisions(
    connection: Connection | Database, keys: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], JobSpec | Exception]:
    """Return many definitions; an exception in place of one that cannot be read any more."""
    unknown = [key for key in dict.fromkeys(keys) if key not in _known]
    read = await jobs.definitions_of(connection, unknown) if unknown else {}
    found: dict[tuple[UUID, int], JobSpec | Exception] = {}
    for key in keys:
        try:
            found[key] = _parsed(key, read.get(key, {}))
        except Exception as error:  # noqa: BLE001  one that cannot be read holds up nobody
            found[key] = error
    return found


def _parsed(key: tuple[UUID, int], definition: Mapping[str, Any]) -> JobSpec:
    spec = _known.get(key)
    if spec is None:
        spec = _known[key] = JobSpec.restore(definition)
        if len(_known) > KEPT:
            _known.popitem(last=False)
    else:
        _known.move_to_end(key)
    return spec
