"""Connectors: what connectors.toml declares, without its secrets, and whether each one works."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import strawberry

from nomaflow import template
from nomaflow.connectors import check
from nomaflow.connectors.spec import ConnectorSpec, SqlConnectorSpec
from nomaflow.errors import Code, NomaflowError
from nomaflow.store import connector_tests, job_pages
from nomaflow_api.auth import Permission
from nomaflow_api.context import Asked
from nomaflow_api.enums import JobOrigin
from nomaflow_api.graph_base import Node, UserError, global_id, mistakes
from nomaflow_api.scalars import Json

if TYPE_CHECKING:
    from nomaflow.store.connector_tests import TestRow
    from nomaflow.store.jobs import JobRow
    from nomaflow_api.backing import Backing
    from nomaflow_api.context import Context

DEFAULT = "default"
SECRET_NAMES = frozenset(
    {"password", "bind_password", "token", "client_secret", "secret_key", "session_token"}
    | {"key", "access_key", "headers"}
)
HARMLESS_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_PLAIN_PASSWORD = re.compile(r"(://[^\s/@:]*:)[^\s/@$]+@")


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
    return Json(_without_secrets(raw))


def _without_secrets(value: Any, *, secret: bool = False) -> Any:
    """Keep references to secrets, take out secrets that were written in plain."""
    match value:
        case Mapping():
            return {
                name: _without_secrets(
                    part,
                    secret=(secret or name in SECRET_NAMES)
                    and name.lower() not in HARMLESS_HEADERS,
                )
                for name, part in value.items()
            }
        case str() if secret and "${" not in value:
            return None
        case str():
            return _PLAIN_PASSWORD.sub(r"\1***@", value)
        case _:
            return value


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
    origin: JobOrigin = strawberry.field(resolver=lambda: JobOrigin.FILE)
    settings: Json = strawberry.field(
        resolver=_settings, description="Secrets are references or null"
    )
    queries: list[NamedQuery] = strawberry.field(resolver=_queries)
    last_test: ConnectorTest | None
    jobs: list[str] = strawberry.field(description="Names of the jobs that name it")

    @classmethod
    def is_type_of(cls, obj: Any, _info: Any) -> bool:
        """Say which rows this type shows."""
        return isinstance(obj, ConnectorRow)


@strawberry.type
class ConnectorTestPayload:
    test: ConnectorTest | None
    errors: list[UserError]


async def rows(context: Context) -> list[ConnectorRow]:
    """List every connector, `default` among them, by name."""
    backing = context.backing
    specs: dict[str, ConnectorSpec | None] = {DEFAULT: None}
    specs |= backing.project.connectors().specs
    tests = await connector_tests.all_of_them(context.db)
    users = _users(await job_pages.definitions(context.db))
    return [
        ConnectorRow(name, spec, tests.get(name), sorted(users.get(name, ())))
        for name, spec in sorted(specs.items())
    ]


async def row(context: Context, name: str) -> ConnectorRow | None:
    """Find one connector."""
    return next((found for found in await rows(context) if found.name == name), None)


def _users(jobs: list[JobRow]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for job in jobs:
        for name in _named(job.definition):
            found.setdefault(name, set()).add(job.name)
    return found


def _named(value: Any) -> Iterator[str]:
    """Yield the values of every field called `connector` or `..._connector`."""
    match value:
        case Mapping():
            for name, part in value.items():
                if isinstance(part, str) and (name == "connector" or name.endswith("_connector")):
                    yield part
                else:
                    yield from _named(part)
        case list() | tuple():
            for part in value:
                yield from _named(part)


async def _rendered(backing: Backing, name: str) -> ConnectorSpec:
    declared = backing.project.connectors().specs.get(name)
    if declared is not None:
        scope = template.Scope(env=backing.project.env())
        return declared.rendered(lambda value: template.render(value, scope), backing.project.root)
    if name != DEFAULT:
        known = ", ".join(f"`{n}`" for n in sorted({DEFAULT, *backing.project.connectors().specs}))
        raise NomaflowError(
            Code.NOT_FOUND, f"there is no connector `{name}`; there are {known}", ("name",)
        )
    return SqlConnectorSpec(kind="sql", url=await backing.default_connector_url())


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
    async def connector_test(self, info: Asked, name: str) -> ConnectorTestPayload:
        context = info.context
        context.need(Permission.EDIT)
        backing = context.backing
        try:
            spec = await _rendered(backing, name)
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
