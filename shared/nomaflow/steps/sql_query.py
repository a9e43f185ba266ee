"""The `sql_query` step: one statement, or a named query, on a SQL connector."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from nomaflow.steps.base import Step


class SqlQuery(Step):
    """Run one SQL statement, or a named query of the connector, with bound parameters."""

    type_name: ClassVar[str] = "sql_query"
    title: ClassVar[str] = "SQL query"
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (("query",),)

    connector: str = Field(min_length=1, description="The SQL connector to use.")
    query: str = Field(
        min_length=1,
        description="One SQL statement with `:name` parameters, or a named query of the connector: `name`, `name:write`.",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Values of the `:name` parameters, always bound.")
    fetch: Literal["all", "first", "none"] = Field("all", description="Which rows to keep: all, first or none.")
    transaction: bool = Field(
        default=True,
        description="false for statements that refuse a transaction: VACUUM, CREATE INDEX CONCURRENTLY, CALL that commits.",
    )
