"""The two ends of a copy as a job writes them."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nomaflow.connectors import statement
from nomaflow.errors import NomaflowError, StepError

_NAME_BYTES = 63  # NAMEDATALEN - 1


class _End(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    connector: str = Field("default", min_length=1, description="The SQL connector.")
    schema_name: str | None = Field(
        None, alias="schema", description="The schema; absent: the connection's search path."
    )

    @field_validator("schema_name")
    @classmethod
    def _schema(cls, value: str | None) -> str | None:
        return value if value is None else identifier(value)


class Source(_End):
    """Where rows come from: a table, or a query."""

    table: str | None = Field(None, description="The table or view to read.")
    query: str | None = Field(
        None, description="Instead of a table: a SELECT with `:name` parameters."
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="Values of the `:name` parameters of query and where."
    )
    where: str | None = Field(
        None, description="A condition on the table's rows, with `:name` parameters."
    )

    @field_validator("table")
    @classmethod
    def _table(cls, value: str | None) -> str | None:
        return value if value is None else identifier(value)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        if self.query is not None and (self.schema_name or self.where):
            raise ValueError(
                "`schema` and `where` belong to a `table`; write them into the `query`"
            )
        return self

    def check_parameters(self, dialect: str) -> None:
        """StepError when a `:name` has no value, or a value no `:name`."""
        try:
            names = statement.parse(f"{self.query or ''} {self.where or ''}", dialect).names
        except NomaflowError as error:
            raise StepError(f"the source: {error.message}", retryable=False) from None
        if missing := [name for name in dict.fromkeys(names) if name not in self.params]:
            raise StepError(
                f"the source uses `:{missing[0]}`; give it in `source.params`", retryable=False
            )
        if unused := [name for name in self.params if name not in names]:
            raise StepError(
                f"`source.params` gives `{unused[0]}`, and the source has no `:{unused[0]}`",
                retryable=False,
            )


class Target(_End):
    """Where rows go."""

    table: str = Field(
        description="The table to fill; overwrite creates it when it does not exist."
    )

    @field_validator("table")
    @classmethod
    def _table(cls, value: str) -> str:
        return identifier(value)


def identifier(value: str) -> str:
    """A name that PostgreSQL keeps whole; ValueError otherwise, nothing is ever folded or cut."""
    if not value:
        raise ValueError("a name cannot be empty")
    if "\x00" in value:
        raise ValueError("a name cannot hold a NUL character")
    if len(value.encode()) > _NAME_BYTES:
        raise ValueError(
            f"the name {value!r:.80} has {len(value.encode())} bytes; PostgreSQL keeps at most 63"
        )
    return value
