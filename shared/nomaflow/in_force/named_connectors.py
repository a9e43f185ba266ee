"""What steps name of connectors, and what is wrong with it: none of that name, kind or query.

Names that hold `${...}` are looked at when the step runs. A job is in force all the same: a
connector may be made through the API before the run needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import spec as connector_spec
from nomaflow.in_force.known_connectors import DEFAULT
from nomaflow.job.problems import did_you_mean
from nomaflow.steps.sql_query import is_reference
from nomaflow.store import connectors
from nomaflow.store.problems import ProblemRow

if TYPE_CHECKING:
    from nomaflow.connectors.spec import ConnectorSpec
    from nomaflow.in_force.declarations import Declaration
    from nomaflow.project.connectors import Connectors
    from nomaflow.store.database import Connection

Path = tuple[str, ...]
Known = Mapping[str, "ConnectorSpec | None"]
"""Connectors by name; None for one whose table cannot be read, which is told elsewhere."""

# Where a step names a connector, of which kind it must be, and where a query of it may stand.
_SQL = "sql"
_PLACES: Mapping[str, tuple[tuple[Path, str, Path | None], ...]] = {
    "sql_query": ((("connector",), _SQL, ("query",)),),
    "sql_copy": (
        (("source", "connector"), _SQL, None),
        (("target", "connector"), _SQL, None),
    ),
    "http": ((("connector",), "http", None),),
    "http_sync": (
        (("request", "connector"), "http", None),
        (("target", "connector"), _SQL, ("target", "query")),
        (("log_table", "connector"), _SQL, None),
    ),
    "ldap_sync": (
        (("connector",), "ldap", None),
        (("target_connector",), _SQL, ("target_query",)),
    ),
}


def of_files(files: Connectors, declared: Iterable[Declaration]) -> Iterator[ProblemRow]:
    """Yield what the files alone can tell: a connector that they lack may be one of the API."""
    known = _of_files(files)
    for one in declared:
        yield from _of_steps(known, one, sure=False)


async def missing(
    connection: Connection, files: Connectors, declared: Iterable[Declaration]
) -> list[ProblemRow]:
    """Return a problem for each connector or query that a job names and that is not there."""
    known: dict[str, ConnectorSpec | None] = {
        row.name: connector_spec.parse(row.definition) for row in await connectors.some(connection)
    }
    known |= _of_files(files)
    # Of a file that cannot be read at all it is not known which connectors it declares.
    sure = all(problem.path for problem in files.problems)
    return [row for one in declared for row in _of_steps(known, one, sure=sure)]


def _of_files(files: Connectors) -> dict[str, ConnectorSpec | None]:
    broken = {
        p.path[1]: None for p in files.problems if p.path[:1] == ("connectors",) and p.path[1:]
    }
    return {DEFAULT: connector_spec.SqlConnectorSpec(driver="postgresql"), **broken, **files.specs}


def _of_steps(known: Known, one: Declaration, *, sure: bool) -> Iterator[ProblemRow]:
    for at, step in enumerate(one.steps):
        for place, kind, query in _PLACES.get(str(step.get("type")), ()):
            name = _at(step, place)
            if name is None:
                continue
            where, words = place, _unfit(known, name, kind, sure=sure)
            if words is None and query is not None:
                where, words = query, _no_query(known, name, _at(step, query))
            if words is not None:
                whose = f"job `{one.job}`: step `{step.get('name')}`: "
                path = ("jobs", one.job, "steps", str(at), *where)
                yield ProblemRow(one.file, one.line, path, whose + words)


def _at(step: Mapping[str, Any], place: Path) -> str | None:
    """The name that stands there, unless a run fills it in."""
    found: Any = step
    for part in place:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) and "${" not in found else None


def _unfit(known: Known, name: str, kind: str, *, sure: bool) -> str | None:
    if name not in known:
        hint = did_you_mean(name, known)
        return f"there is no connector `{name}`{hint}" if sure else None
    spec = known[name]
    if spec is None or spec.kind == kind:
        return None
    return f"connector `{name}` is of kind {spec.kind}; this step needs kind {kind}"


def _no_query(known: Known, name: str, query: str | None) -> str | None:
    spec = known.get(name)
    if query is None or spec is None or not is_reference(query):
        return None
    asked, _, suffix = query.strip().partition(":")
    found = spec.queries.get(asked)
    if found is None:
        hint = did_you_mean(asked, spec.queries)
        return f"connector `{name}` has no query named `{asked}`{hint}"
    if (suffix == "write") != (found.operation == "write"):
        if suffix == "write":
            return f"query `{asked}` of connector `{name}` only reads; it cannot write"
        return f"query `{asked}` of connector `{name}` changes data; refer to it as `{asked}:write`"
    return None
