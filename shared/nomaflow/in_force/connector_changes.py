"""Connectors made through the API: declared, changed, deleted, their secrets sealed anew.

What is wrong comes back as SpecErrors with paths into the input: `settings`, `secrets`, `queries`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import reach, secret_fields
from nomaflow.connectors import spec as connector_spec
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force.known_connectors import DEFAULT, misplaced, names_in
from nomaflow.job.problems import Path, Problem, SpecErrors
from nomaflow.language import template
from nomaflow.project import connectors as declared
from nomaflow.store import connectors, job_pages
from nomaflow.store.problems import ProblemRow

if TYPE_CHECKING:
    from nomaflow.project.folder import Project
    from nomaflow.store.connectors import StoredConnector
    from nomaflow.store.database import Connection, Database
    from nomaflow.store.jobs import JobRow
    from nomaflow.vault import Vault

LARGEST = 65_536  # bytes of a definition, and of one secret
SHORTEST_SECRET = 4  # a shorter one cannot be told from ordinary text (SEC-S06)
MOST_SECRETS = 50
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_IMPLIED = ("password", "bind_password")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a mutation says; `secrets` None keeps those there are, a null in it removes one."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    queries: Mapping[str, Any] | None = None
    secrets: Mapping[str, Any] | None = None


async def create(
    db: Database, project: Project, vault: Vault, asked: Asked, *, by: str
) -> StoredConnector:
    """Declare a connector. ALREADY_EXISTS, CONFLICT with a file, or SpecErrors with paths."""
    _refuse_files(project, asked.name, "choose another name, or change it there")
    secrets = _merged({}, asked)
    definition = _definition(asked, secrets)
    _check(project, asked.name, definition, secrets)
    sealed = vault.seal(asked.name, secrets) if secrets else None
    async with db.transaction() as connection:
        new = await connectors.insert(
            connection,
            asked.name,
            definition=definition,
            sealed=sealed,
            secret_names=sorted(secrets),
            by=by,
        )
        if not new:
            raise NomaflowError(
                Code.ALREADY_EXISTS,
                f"there already is a connector `{asked.name}`; choose another name or update it",
                ("name",),
            )
        return await _found(connection, asked.name)


async def update(
    db: Database,
    project: Project,
    vault: Vault,
    asked: Asked,
    *,
    by: str,
    expected_revision: int | None = None,
) -> StoredConnector:
    """Replace settings and queries; secrets that are not given stay as they are.

    CONFLICT when a file declares it or someone changed it meanwhile. Secrets are bound to where
    they are sent: another address asks for them again (SEC-V02).
    """
    _refuse_files(project, asked.name, "change it there")
    async with db.transaction() as connection:
        old = await _found(connection, asked.name, lock=True)
        if expected_revision is not None and expected_revision != old.revision:
            raise NomaflowError(
                Code.CONFLICT,
                f"connector `{asked.name}` is at revision {old.revision}, not "
                f"{expected_revision}: someone changed it meanwhile; read it again and repeat "
                "your change",
                ("expectedRevision",),
            )
        kept = vault.open(old.name, old.sealed) if old.sealed and _keeps(old, asked) else {}
        secrets = _merged(kept, asked)
        definition = _definition(asked, secrets)
        _check(project, asked.name, definition, secrets)
        _bound(old, definition, kept.keys() & secrets.keys() - (asked.secrets or {}).keys())
        await connectors.replace(
            connection,
            asked.name,
            definition=definition,
            sealed=vault.seal(asked.name, secrets) if secrets else None,
            secret_names=sorted(secrets),
            by=by,
        )
        return await _found(connection, asked.name)


async def delete(db: Database, project: Project, name: str) -> None:
    """Remove a connector and its secrets. IN_USE while a job in force names it.

    One that a file hides may go: the jobs that name it use the file's.
    """
    async with db.transaction() as connection:
        if await connectors.find(connection, name, lock=True) is None:
            _refuse_files(project, name, "take it out there")
            await _found(connection, name)
        using = sorted(users(await job_pages.definitions(connection)).get(name, ()))
        if using and name not in project.connectors().specs:
            shown = ", ".join(f"`{job}`" for job in using[:10])
            more = f" and {len(using) - 10} more" if len(using) > 10 else ""  # noqa: PLR2004
            raise NomaflowError(
                Code.IN_USE, f"connector `{name}` is named by {shown}{more}", ("name",)
            )
        await connectors.delete(connection, name)


async def rotate(db: Database, vault: Vault) -> list[str]:
    """Seal with the newest key what an older one sealed; the names of those connectors.

    All or nothing: INVALID_STATE when a connector's secrets open with none of the keys.
    """
    changed: list[str] = []
    async with db.transaction() as connection:
        for row in await connectors.some(connection):
            held = await connectors.find(connection, row.name, lock=True)
            if held is None or held.sealed is None or vault.is_current(held.sealed):
                continue
            secrets = vault.open(held.name, held.sealed)
            await connectors.reseal(connection, held.name, vault.seal(held.name, secrets))
            changed.append(held.name)
    return changed


async def hidden_connectors(connection: Connection, project: Project) -> list[ProblemRow]:
    """Return a problem for each connector made through the API whose name a file declares too."""
    files = project.connectors()
    return [
        ProblemRow(
            "connectors.toml",
            files.lines.get(row.name),
            ("connectors", row.name),
            f"connector `{row.name}` made through the API is hidden by the one in this file; "
            "delete or rename one of them",
        )
        for row in await connectors.some(connection, sorted(files.specs))
    ]


def users(jobs: list[JobRow]) -> dict[str, set[str]]:
    """Say which jobs name which connector, in a step, a parameter, a preset or a schedule."""
    found: dict[str, set[str]] = {}
    for job in jobs:
        for name in names_in(job.definition):
            found.setdefault(name, set()).add(job.name)
    return found


def _refuse_files(project: Project, name: str, advice: str) -> None:
    if name in project.connectors().specs:
        raise NomaflowError(
            Code.CONFLICT, f"connector `{name}` is declared in connectors.toml; {advice}", ("name",)
        )
    if name == DEFAULT:
        raise NomaflowError(
            Code.CONFLICT,
            "connector `default` is the service's own database and always there; a file may "
            "declare another one under that name",
            ("name",),
        )


async def _found(connection: Connection, name: str, *, lock: bool = False) -> StoredConnector:
    row = await connectors.find(connection, name, lock=lock)
    if row is None:
        raise NomaflowError(Code.NOT_FOUND, f"there is no connector `{name}`", ("name",))
    return row


def _keeps(old: StoredConnector, asked: Asked) -> bool:
    """Whether a stored secret is still wanted; a lost key is no obstacle to giving all anew."""
    return bool(set(old.secret_names) - (asked.secrets or {}).keys())


def _merged(kept: Mapping[str, str], asked: Asked) -> dict[str, str]:
    given = asked.secrets or {}
    problems = [
        Problem(("secrets", name), message)
        for name, value in given.items()
        if (message := _unfit(name, value))
    ]
    if len(given) > MOST_SECRETS:
        problems.append(Problem(("secrets",), f"a connector has at most {MOST_SECRETS} secrets"))
    if problems:
        raise SpecErrors(problems)
    merged = {**kept, **given}
    return {name: value for name, value in merged.items() if value is not None}


def _unfit(name: str, value: Any) -> str | None:
    if not _SECRET_NAME.fullmatch(name):
        return "a secret's name is 1 to 64 letters, digits or `_`, no digit first"
    if value is None:
        return None
    if not isinstance(value, str):
        return f"secret `{name}` must be text, or null to remove it"
    if "\x00" in value:
        return f"secret `{name}` holds a NUL character"
    if not SHORTEST_SECRET <= len(value) <= LARGEST:
        return f"secret `{name}` must have {SHORTEST_SECRET} to {LARGEST} characters"
    return None


def _definition(asked: Asked, secrets: Mapping[str, str]) -> dict[str, Any]:
    table: dict[str, Any] = {**asked.settings}
    for name in ("kind", "queries"):
        if name in table:
            raise SpecErrors([Problem(("settings", name), f"`{name}` is given beside `settings`")])
    for name in _IMPLIED:
        # A secret of a field's own name goes without saying where.
        is_field = name in connector_spec.fields_of(asked.kind)
        if is_field and name in secrets and name not in table and not _refers(table, name):
            table[name] = f"${{secret:{name}}}"
    table["kind"] = asked.kind
    if asked.queries:
        table["queries"] = dict(asked.queries)
    return table


def _refers(table: Mapping[str, Any], secret: str) -> bool:
    return any(
        (secret,) in template.references(value, "secret")
        for value in table.values()
        if not template.problems(value)
    )


def _check(
    project: Project, name: str, definition: Mapping[str, Any], secrets: Mapping[str, str]
) -> None:
    problems = [
        Problem(_place(path), message) for path, message in declared.problems_of(name, definition)
    ]
    rest = {key: value for key, value in definition.items() if key != "queries"}
    problems += [Problem(_place(path), words) for path, words in secret_fields.in_plain(rest)]
    if len(json.dumps(definition)) > LARGEST:
        problems.append(Problem(("settings",), f"the connector is larger than {LARGEST} bytes"))
    if not problems:
        used = template.references(rest, "secret")
        for missing in sorted(used - {(known,) for known in secrets}):
            words = f"there is no secret `{missing[0]}`; give it in `secrets`"
            problems.append(Problem(("secrets", missing[0]), words))
        for unused in sorted({(known,) for known in secrets} - used):
            words = f"no setting says `${{secret:{unused[0]}}}`, so the secret would not be used"
            problems.append(Problem(("secrets", unused[0]), words))
        spec = connector_spec.parse(definition).inside(project.root)
        if wrong := misplaced(spec, project.root):
            problems.append(Problem(("settings",), wrong, Code.FORBIDDEN))
    if problems:
        raise SpecErrors(problems)


def _place(path: Path) -> Path:
    """Lead into the mutation's input, where `kind` and `queries` stand beside the settings."""
    if not path:
        return ("name",)
    return path if path[0] in {"kind", "queries"} else ("settings", *path)


def _bound(old: StoredConnector, definition: Mapping[str, Any], kept: set[str]) -> None:
    if not kept or reach.destination(old.definition) == reach.destination(definition):
        return
    names = ", ".join(f"`{name}`" for name in sorted(kept))
    raise SpecErrors(
        [
            Problem(
                ("secrets",),
                f"the connector leads elsewhere now, and its secrets were given for the old "
                f"address: give {names} again",
            )
        ]
    )
