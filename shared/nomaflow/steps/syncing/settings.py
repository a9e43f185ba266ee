"""What a person writes about a sync besides its request: pages, target, watermark, log table."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from nomaflow.language import expression

_MAX = re.compile(r"max:(.+)", re.DOTALL)
NUMBERED = ("page", "offset")


def _readable(text: str) -> str:
    try:
        expression.compile(text)
    except expression.ExpressionError as error:
        raise ValueError(error.message) from None
    return text


Expression = Annotated[str, Field(min_length=1), AfterValidator(_readable)]
Word = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Paginate(_Part):
    """How the API cuts its list into pages, and how it says that there are no more."""

    type: Literal["page", "offset", "cursor", "next_link", "link_header"] = Field(
        description="page: a page number; offset: how many items to pass over; cursor: a value of "
        "the answer; next_link: a URL in the answer; link_header: rel=next of the Link header."
    )
    start: int | None = Field(
        None, description="The first page number or offset; default 1 for page, 0 for offset."
    )
    size: int | None = Field(
        None,
        ge=1,
        description="Items asked for per page; a shorter page ends a list without total.",
    )
    page_param: Word = Field("page", description="The query parameter of the page number.")
    size_param: str = Field(
        "limit", description="The query parameter of `size`; empty: it is not sent."
    )
    cursor_param: Word = Field("cursor", description="The query parameter of the cursor.")
    offset_param: Word = Field("offset", description="The query parameter of the offset.")
    offset_size: int | None = Field(
        None,
        ge=1,
        description="How far the offset moves per page; absent: by the items that came.",
    )
    next: Expression | None = Field(
        None, description="Where the answer holds the next cursor or link; empty there: the end."
    )
    total: Expression | None = Field(
        None, description="Where the answer says how many items there are in all; it is held to it."
    )
    has_more: Expression | None = Field(
        None, description="Where the answer says whether there is another page."
    )
    max_pages: int | None = Field(
        None,
        ge=1,
        description="Read so many pages at most; when there are more, the watermark stays.",
    )
    delay_seconds: float = Field(
        0, ge=0, le=3600, description="Time between the beginnings of two requests, at least."
    )
    concurrency: int = Field(
        1, ge=1, le=32, description="Pages fetched at once; page and offset only."
    )

    @property
    def numbered(self) -> bool:
        """True when a page can be asked for without having seen the one before."""
        return self.type in NUMBERED

    @property
    def own_params(self) -> tuple[str, ...]:
        """The query parameters that belong to the pages."""
        size = (self.size_param,) if self.size and self.size_param else ()
        match self.type:
            case "page":
                return (self.page_param, *size)
            case "offset":
                return (self.offset_param, *size)
            case "cursor":
                return (self.cursor_param, *size)
            case _:
                return size

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        needs_next = self.type in ("cursor", "next_link")
        if needs_next and self.next is None:
            what = "cursor" if self.type == "cursor" else "link"
            raise ValueError(f"`{self.type}` needs `next`: where the answer holds the next {what}")
        if self.next is not None and not needs_next:
            raise ValueError("`next` belongs to the types cursor and next_link")
        for field, types in (
            ("page_param", ("page",)),
            ("cursor_param", ("cursor",)),
            ("offset_param", ("offset",)),
            ("offset_size", ("offset",)),
            ("start", NUMBERED),
        ):
            if field in self.model_fields_set and self.type not in types:
                raise ValueError(f"`{field}` belongs to the type {' or '.join(types)}")
        own = self.own_params
        if len(set(own)) < len(own):
            raise ValueError(f"`{own[0]}` cannot be two query parameters at once")
        if self.concurrency > 1:
            if not self.numbered:
                raise ValueError(
                    f"`concurrency` needs the type page or offset; with {self.type} each page "
                    "names the next"
                )
            if self.type == "offset" and self.size is None and self.offset_size is None:
                raise ValueError("`concurrency` with offsets needs `size`, to know the next ones")
        return self


class Target(_Part):
    """Where rows go: a table, or a named query of the connector."""

    connector: Word = Field("default", description="A SQL connector.")
    table: Word | None = Field(None, description="The table to write to.")
    schema_name: Word | None = Field(
        None, alias="schema", description="Its schema; absent: the connection's search path."
    )
    key: tuple[Word, ...] = Field(
        (),
        description="Columns of a unique index: rows with a known key are updated, others are "
        "inserted. Absent: every row is inserted.",
    )
    query: Word | None = Field(
        None,
        description="Instead of a table: a named query; its parameters are the mapped columns.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("the target needs either `table` or `query`")
        if self.query is not None and (self.key or self.schema_name):
            raise ValueError("`key` and `schema` go with `table`; a query says itself where to")
        if len(set(self.key)) < len(self.key):
            raise ValueError("`key` names a column twice")
        return self


class Watermark(_Part):
    """How far the source has been read, kept for the next run as `${state.<name>}`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")] = Field(
        description="Its name; read with `${state.<name>:-<default>}`."
    )
    value: Annotated[str, Field(pattern=r"^(run_start|completed_at|max:.+)$")] = Field(
        "run_start",
        description="run_start: nothing changed meanwhile is lost; completed_at: when it "
        "was done; max:<column>: the largest value of a mapped column.",
    )

    @property
    def column(self) -> str | None:
        """The column whose largest value is meant."""
        found = _MAX.fullmatch(self.value)
        return found.group(1) if found else None


class LogTable(_Part):
    """A table of your own with one row per run: the columns of seed 003's `sync_logs`."""

    connector: Word = Field("default", description="A SQL connector.")
    table: Word = Field(
        "sync_logs",
        description="Columns sync_id, status, records_processed, pages, duration_seconds, errors, "
        "completed_at.",
    )
    schema_name: Word | None = Field(
        None, alias="schema", description="Its schema; absent: the connection's search path."
    )
