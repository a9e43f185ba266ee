"""The worker's connectors: specs rendered with today's secrets, and one bounded pool for each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from nomaflow.connectors import sql
from nomaflow.connectors.http import connector as http
from nomaflow.connectors.http.client import HttpClient
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.spec import HttpConnectorSpec, LdapConnectorSpec, SqlConnectorSpec
from nomaflow.errors import NomaflowError, StepError
from nomaflow.in_force.known_connectors import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
    from nomaflow.connectors.ldap.connector import LdapSettings
    from nomaflow.connectors.spec import ConnectorSpec
    from nomaflow.connectors.sql import Session, SqlConnector, SqlPool
    from nomaflow.in_force.known_connectors import KnownConnectors
    from nomaflow.project.folder import Project
    from nomaflow.store.database import Database

log = structlog.get_logger(__name__)


class Connections:
    """Every connector there is, by name; `default` is the service's own database."""

    def __init__(self, project: Project, default_url: str, known: KnownConnectors) -> None:
        self._project = project
        self._known = known
        self._default = SqlConnectorSpec(kind="sql", url=default_url)
        self._pools: dict[str, SqlPool] = {}
        self._clients: dict[tuple[str | None, HttpPolicy], HttpClient] = {}
        self._retired: dict[asyncio.Task[None], SqlPool | HttpClient] = {}

    async def look(self, db: Database, names: Iterable[str]) -> None:
        """See these connectors as they are declared now, those made through the API too.

        While the database is away they stay as they were seen last.
        """
        wanted = list(names)
        if not wanted:
            return
        try:
            await self._known.look(db, wanted)
        except (OSError, TimeoutError, *db.Error) as error:
            log.warning("connectors as they were", error=type(error).__name__)

    def kinds(self) -> dict[str, str]:
        """Names of the connectors there are, and the kind of each."""
        return self._known.kinds()

    def spec(self, name: str) -> ConnectorSpec:
        """The connector's settings with secrets filled in; StepError for an unknown name."""
        try:
            found = self._known.rendered(name)
        except NomaflowError as error:
            raise StepError(f"connector `{name}`: {error.message}", retryable=False) from None
        if found is not None:
            return found
        if name == DEFAULT:
            return self._default
        known = ", ".join(sorted(self.kinds()))
        raise StepError(
            f"there is no connector `{name}`, neither in connectors.toml nor made through the "
            f"API; known ones: {known}",
            retryable=False,
        )

    def sql(self, name: str, session: Session) -> SqlConnector:
        """A step's own use of a SQL connector, from the pool all steps share."""
        spec = self.spec(name)
        if not isinstance(spec, SqlConnectorSpec):
            raise StepError(
                f"connector `{name}` is of kind {spec.kind}; this step needs kind sql",
                retryable=False,
            )
        return self._pool(name, spec).connector(session)

    def http(
        self, name: str | None, policy: HttpPolicy, on_secret: Callable[[str], None]
    ) -> HttpClient:
        """The client of connector `name` that all steps share; a new one when its settings change.

        Connections made for those who may go anywhere are not those of the others.
        """
        settings = self._http_settings(name, policy)
        kept = self._clients.get((name, policy))
        if kept is not None and kept.settings == settings:
            return kept
        if kept is not None:
            self._retire(kept, f"{name}")
        client = self._clients[name, policy] = HttpClient(settings, on_secret)
        return client

    def _http_settings(self, name: str | None, policy: HttpPolicy) -> HttpSettings:
        if name is None:
            return http.HttpSettings(policy=policy)
        spec = self.spec(name)
        if not isinstance(spec, HttpConnectorSpec):
            raise StepError(
                f"connector `{name}` is of kind {spec.kind}; this step needs kind http",
                retryable=False,
            )
        return http.settings(spec, policy)

    def ldap(self, given: str | LdapConnectorSpec, policy: HttpPolicy) -> LdapSettings:
        """A directory by its connector's name, or as a step describes it itself.

        A connector leads where its author says; a step of a job that is not trusted goes where
        `policy` lets it, and trusts no file outside of the project.
        """
        if isinstance(given, str):
            spec = self.spec(given)
            if not isinstance(spec, LdapConnectorSpec):
                raise StepError(
                    f"connector `{given}` is of kind {spec.kind}; this step needs kind ldap",
                    retryable=False,
                )
            return ldap.settings(spec)
        if given.ca_file is not None:
            root = self._project.root.resolve()
            path = (root / given.ca_file).resolve()
            if not policy.allow_private and not path.is_relative_to(root):
                raise StepError("`ca_file` leads outside of the project", retryable=False)
            given = given.model_copy(update={"ca_file": str(path)})
        return ldap.settings(given, policy)

    def table(self, name: str) -> Mapping[str, Any]:
        """The rendered settings as a table, for a child process that opens its own connection."""
        return self.spec(name).model_dump(mode="json", by_alias=True, exclude_none=True)

    async def terminate(self, name: str, pid: int, application: str) -> None:
        """End a server process that an earlier try of a step left behind, if it is still there."""
        with suppress(StepError):
            spec = self.spec(name)
            if not isinstance(spec, SqlConnectorSpec):
                return
            own = sql.pool(name, spec)
            try:
                async with asyncio.timeout(5):
                    await own.end(pid, application)
            except TimeoutError:
                log.warning("could not end a server process", connector=name, pid=pid)
            finally:
                await own.close()

    def outlives_its_client(self, name: str) -> bool:
        """Whether a statement of that connector works on when the process that sent it dies."""
        with suppress(StepError):
            spec = self.spec(name)
            return isinstance(spec, SqlConnectorSpec) and sql.dialect_of(name, spec) == "mysql"
        return False

    async def close(self) -> None:
        """Close every pool; statements in flight are cancelled on their servers."""
        kept = [*self._pools.values(), *self._clients.values(), *self._retired.values()]
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*(one.close() for one in kept))
        self._pools.clear()
        self._clients.clear()

    def _pool(self, name: str, spec: SqlConnectorSpec) -> SqlPool:
        kept = self._pools.get(name)
        if kept is not None and kept.spec == spec:
            return kept
        if kept is not None:  # its settings changed; steps in flight keep what they hold
            self._retire(kept, name)
        pool = self._pools[name] = sql.pool(name, spec)
        return pool

    def _retire(self, kept: SqlPool | HttpClient, name: str) -> None:
        async def later() -> None:
            await asyncio.sleep(3600)  # the longest default step; then it is surely idle
            await kept.close()

        task = asyncio.create_task(later(), name=f"retire {name}")
        self._retired[task] = kept
        task.add_done_callback(self._retired.pop)
