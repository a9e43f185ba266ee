"""Every connector there is: those of connectors.toml and those made through the API.

A name belongs to the file first. Secrets are opened here, into this program's memory and its
mask; what leaves is the rendered connector that a step is about to use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomaflow.connectors import outbound, reach
from nomaflow.connectors import spec as connector_spec
from nomaflow.errors import Code, NomaflowError, StepError
from nomaflow.language import template
from nomaflow.store import connectors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nomaflow.connectors.spec import ConnectorSpec
    from nomaflow.project.folder import Project
    from nomaflow.project.secrets import Secrets
    from nomaflow.store.connectors import StoredConnector
    from nomaflow.store.database import Connection, Database
    from nomaflow.vault import Vault

DEFAULT = "default"
"""The service's own database, schema public; always there, unless a file says otherwise."""


class KnownConnectors:
    """The connectors as this program last saw them; `look` sees them anew."""

    def __init__(self, project: Project, vault: Vault, secrets: Secrets) -> None:
        self._project, self._vault, self._secrets = project, vault, secrets
        self._stored: dict[str, StoredConnector] = {}
        self._opened: dict[str, tuple[str, Mapping[str, str]]] = {}

    async def look(
        self, db: Connection | Database, names: Iterable[str] | None = None
    ) -> list[StoredConnector]:
        """Read the connectors of these names, or all, as the database holds them now.

        Names that a file declares cost nothing. Their secrets are masked from here on. When one
        is nowhere, all are read: whoever is told so is told which there are.
        """
        wanted = None
        if names is not None:
            wanted = set(names) - self._project.connectors().specs.keys() - {DEFAULT}
            if not wanted:
                return []
        rows = await connectors.some(db, None if wanted is None else sorted(wanted))
        for gone in (self._stored.keys() if wanted is None else wanted) - {r.name for r in rows}:
            self._stored.pop(gone, None)
            self._opened.pop(gone, None)
        for row in rows:
            self._stored[row.name] = row
            self._open(row)
        if wanted is not None and len(rows) < len(wanted):
            await self.look(db)
        return rows

    def kinds(self) -> dict[str, str]:
        """Names of the connectors, and the kind of each."""
        files = self._project.connectors().specs
        return {
            DEFAULT: "sql",
            **{name: row.kind for name, row in self._stored.items()},
            **{name: spec.kind for name, spec in files.items()},
        }

    def rendered(self, name: str) -> ConnectorSpec | None:
        """The connector with its secrets filled in; None when there is none of that name.

        NomaflowError when something in it cannot be filled in, or leads where it must not.
        """
        root = self._project.root
        env = self._project.env()
        declared = self._project.connectors().specs.get(name)
        if declared is not None:
            scope = template.Scope(env=env)
            return declared.rendered(lambda value: template.render(value, scope), root)
        row = self._stored.get(name)
        if row is None:
            return None
        scope = template.Scope(env=env, connector_secrets=self._secrets_of(row))
        made = connector_spec.parse(row.definition).rendered(
            lambda value: template.render(value, scope), root
        )
        if words := misplaced(made, root):
            raise NomaflowError(Code.FORBIDDEN, words)
        return made

    def _open(self, row: StoredConnector) -> None:
        """Put the secrets into memory and into the mask, if the key fits."""
        known = self._opened.get(row.name)
        if row.sealed is None or (known is not None and known[0] == row.sealed):
            return
        try:
            found = self._vault.open(row.name, row.sealed)
        except NomaflowError:
            return  # whoever wants to use the connector is told
        self._opened[row.name] = (row.sealed, found)
        self._secrets.keep(found.values())

    def _secrets_of(self, row: StoredConnector) -> Mapping[str, str]:
        if row.sealed is None:
            return {}
        known = self._opened.get(row.name)
        if known is not None and known[0] == row.sealed:
            return known[1]
        return self._vault.open(row.name, row.sealed)


def names_in(settings: Any) -> Iterator[str]:
    """Yield the values of every field called `connector` or `..._connector`, however deep."""
    match settings:
        case Mapping():
            for name, part in settings.items():
                if isinstance(part, str) and (name == "connector" or name.endswith("_connector")):
                    yield part
                else:
                    yield from names_in(part)
        case list() | tuple():
            for part in settings:
                yield from names_in(part)


def misplaced(spec: ConnectorSpec, root: Path) -> str | None:
    """Why a connector that came through the API may not lead where it does; None when it may.

    Cloud metadata is never reached, and only files of the project are read or written. Files'
    connectors are trusted like the code beside them.
    """
    for host in reach.hosts(spec):
        try:
            outbound.check_host(host)
        except StepError as error:
            return error.message
    for file in reach.files(spec):
        if not (root / file).resolve().is_relative_to(root.resolve()):
            return f"the file {file!r} lies outside of the project folder"
    return None
