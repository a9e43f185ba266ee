"""Connectors: what connectors.toml declares, without its secrets, and whether each one works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import strawberry

from nomaflow.connectors import check, secret_fields
from nomaflow.connectors import spec as connector_spec
from nomaflow.connectors.spec import ConnectorSpec, SqlConnectorSpec
from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import connector_changes
from nomaflow.in_force.known_connectors import DEFAULT
from nomaflow.job.problems import SpecErrors
from nomaflow.store import connector_tests, connectors, job_pages
from nomaflow_api.auth import Permission
from nomaflow_api.closing import DeletePayload
from nomaflow_api.connector_input import ConnectorInput
from nomaflow_api.context import ABSENT, Asked
from nomaflow_api.graph.base import Node, UserError, global_id, mistakes
from nomaflow_api.graph.enums import JobOrigin
from nomaflow_api.graph.scalars import Json

if TYPE_CHECKING:
    from nomaflow.store.connector_tests import TestRow
    from nomaflow.store.connectors import StoredConnector
    from nomaflow_api.context import Context


@strawberry.type
class ConnectorTest:
    ok: bool
    at: datetime
    milliseconds: float
    message: str


@strawberry.type
class NamedQuery:
    name: str
    operation: str
    sql: str
    description: str
    params: Json


@dataclass(frozen=True, slots=True)
class ConnectorRow:
    """A connector with what is known of it."""

    name: str
    spec: ConnectorSpec | None
    """None for `default` when no file declares it: the service's own database."""
    last_test: TestRow | None
    jobs: list[str]
    stored: StoredConnector | None = None
    """Its row, when it was made through the API."""

    @property
    def kind(self) -> str:
        """What sort of system it is."""
        return self.spec.kind if self.spec else "sql"


def _id(root: ConnectorRow) -> strawberry.ID:
    return global_id("Connector", root.name)


def _settings(root: ConnectorRow) -> Json:
    if root.spec is None:
        return Json({"description": "The service's own database, schema public."})
    raw = root.spec.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude={"queries", "kind"}
    )
    return Json(secret_fields.hidden(raw))


def _origin(root: ConnectorRow) -> JobOrigin:
    return JobOrigin.API if root.stored else JobOrigin.FILE


def _secret_names(root: ConnectorRow) -> list[str]:
    return list(root.stored.secret_names) if root.stored else []


def _revision(root: ConnectorRow) -> int | None:
    return root.stored.revision if root.stored else None


def _queries(root: ConnectorRow) -> list[NamedQuery]:
    queries = root.spec.queries if root.spec else {}
    return [
        NamedQuery(
            name=name,
            operation=query.operation,
            sql=query.sql,
            description=query.description,
            params=Json({p: spec.model_dump(mode="json") for p, spec in query.params.items()}),
        )
        for name, query in queries.items()
    ]


@strawberry.type
class Connector(Node):
    id: strawberry.ID = strawberry.field(resolver=_id)
    name: str
    kind: str
    origin: JobOrigin = strawberry.field(resolver=_origin)
    settings: Json = strawberry.field(
        resolver=_settings, description="Secrets are references or null"
    )
    secret_names: list[str] = strawberry.field(
        resolver=_secret_names, description="What `${secret:NAME}` may name; values never leave"
    )
    revision: int | None = strawberry.field(
        resolver=_revision, description="Of one made through the API; null for a file's"
    )
    queries: list[NamedQuery] = strawberry.field(resolver=_queries)
    last_test: ConnectorTest | None
    jobs: list[str] = strawberry.field(description="Names of the jobs that name it")

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which rows this type shows."""
        return isinstance(obj, ConnectorRow)


@strawberry.type
class ConnectorPayload:
    connector: Connector | None
    errors: list[UserError]


@strawberry.type
class ConnectorTestPayload:
    test: ConnectorTest | None
    errors: list[UserError]


async def rows(context: Context) -> list[ConnectorRow]:
    """List every connector, `default` among them, by name; a file's hides one of the API."""
    stored = {row.name: row for row in await connectors.some(context.db)}
    specs: dict[str, ConnectorSpec | None] = {DEFAULT: None}
    specs |= {name: connector_spec.parse(row.definition) for name, row in stored.items()}
    files = context.backing.project.connectors().specs
    specs |= files
    tests = await connector_tests.all_of_them(context.db)
    users = connector_changes.users(await job_pages.definitions(context.db))
    return [
        ConnectorRow(
            name,
            spec,
            tests.get(name),
            sorted(users.get(name, ())),
            None if name in files else stored.get(name),
        )
        for name, spec in sorted(specs.items())
    ]


async def row(context: Context, name: str) -> ConnectorRow | None:
    """Find one connector."""
    return next((found for found in await rows(context) if found.name == name), None)


async def _rendered(context: Context, name: str) -> ConnectorSpec:
    backing = context.backing
    await backing.known.look(context.db, [name])
    spec = backing.known.rendered(name)
    if spec is not None:
        return spec
    if name != DEFAULT:
        known = ", ".join(f"`{found.name}`" for found in await rows(context))
        raise NomaflowError(
            Code.NOT_FOUND, f"there is no connector `{name}`; there are {known}", ("name",)
        )
    return SqlConnectorSpec(kind="sql", url=await backing.default_connector_url())


def _masks(context: Context, asked: connector_changes.Asked) -> connector_changes.Asked:
    """Mask what was given as a secret from here on, whatever becomes of it."""
    given = (asked.secrets or {}).values()
    context.backing.secrets.keep(value for value in given if isinstance(value, str))
    return asked


async def _payload(context: Context, name: str) -> ConnectorPayload:
    found = cast("Connector | None", await row(context, name))
    return ConnectorPayload(connector=found, errors=[])


@strawberry.type
class ConnectorQueries:
    @strawberry.field
    async def connector(self, info: Asked, name: str) -> Connector | None:
        info.context.need(Permission.SEE)
        return cast("Connector | None", await row(info.context, name))

    @strawberry.field
    async def connectors(self, info: Asked) -> list[Connector]:
        info.context.need(Permission.SEE)
        return cast("list[Connector]", await rows(info.context))


@strawberry.type
class ConnectorMutations:
    @strawberry.mutation
    async def connector_create(self, info: Asked, input: ConnectorInput) -> ConnectorPayload:
        context = info.context
        context.need(Permission.ADMIN)
        backing = context.backing
        try:
            asked = _masks(context, input.asked())
            await connector_changes.create(
                context.db, backing.project, backing.vault, asked, by=context.caller.word
            )
        except (NomaflowError, SpecErrors) as error:
            return ConnectorPayload(connector=None, errors=mistakes(error))
        await context.backing.look_at_files()  # jobs may have waited for it
        return await _payload(context, input.name)

    @strawberry.mutation
    async def connector_update(
        self, info: Asked, input: ConnectorInput, expected_revision: int | None = ABSENT
    ) -> ConnectorPayload:
        context = info.context
        context.need(Permission.ADMIN)
        backing = context.backing
        try:
            asked = _masks(context, input.asked())
            await connector_changes.update(
                context.db,
                backing.project,
                backing.vault,
                asked,
                by=context.caller.word,
                expected_revision=None if expected_revision is ABSENT else expected_revision,
            )
        except (NomaflowError, SpecErrors) as error:
            return ConnectorPayload(connector=None, errors=mistakes(error))
        await context.backing.look_at_files()  # jobs may have waited for it
        return await _payload(context, input.name)

    @strawberry.mutation
    async def connector_delete(self, info: Asked, name: str) -> DeletePayload:
        context = info.context
        context.need(Permission.ADMIN)
        try:
            await connector_changes.delete(context.db, context.backing.project, name)
        except NomaflowError as error:
            return DeletePayload(deleted=None, errors=mistakes(error))
        await context.backing.look_at_files()  # one that a file hid is a problem no more
        return DeletePayload(deleted=name, errors=[])

    @strawberry.mutation
    async def connector_test(self, info: Asked, name: str) -> ConnectorTestPayload:
        context = info.context
        context.need(Permission.EDIT)
        backing = context.backing
        try:
            spec = await _rendered(context, name)
        except NomaflowError as error:
            return ConnectorTestPayload(test=None, errors=mistakes(error))
        result = await check.connector(name, spec, backing.options.http)
        test = await connector_tests.keep(
            context.db,
            name,
            ok=result.ok,
            milliseconds=result.milliseconds,
            message=backing.secrets.masker().text(result.message),
        )
        return ConnectorTestPayload(test=cast("ConnectorTest", test), errors=[])
