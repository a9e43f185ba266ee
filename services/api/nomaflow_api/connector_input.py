"""What a caller says of a connector, in the words of the library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import strawberry

from nomaflow.in_force import connector_changes
from nomaflow.job.problems import Problem, SpecErrors
from nomaflow_api.context import ABSENT
from nomaflow_api.graph.scalars import Json


@strawberry.input
class ConnectorInput:
    name: str
    kind: str = strawberry.field(description="sql, http or ldap")
    settings: Json = strawberry.field(
        description="The kind's own fields, as in connectors.toml; secrets as ${secret:NAME}"
    )
    secrets: Json | None = strawberry.field(
        default=ABSENT,
        description="Write-only, encrypted at rest: {name: text}; absent ones stay, null removes",
    )
    queries: Json | None = strawberry.field(
        default=ABSENT, description="Named queries: {name: {operation, sql, params, description}}"
    )

    def asked(self) -> connector_changes.Asked:
        """Return it for the library; SpecErrors when a part is no table."""
        return connector_changes.Asked(
            name=self.name,
            kind=self.kind,
            settings=_table("settings", self.settings) or {},
            queries=_table("queries", self.queries),
            secrets=_table("secrets", self.secrets),
        )


def _table(name: str, value: Any) -> Mapping[str, Any] | None:
    if value is ABSENT or value is None:
        return None
    if not isinstance(value, Mapping):
        raise SpecErrors([Problem((name,), f"`{name}` must be a table")])
    return value
