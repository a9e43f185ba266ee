"""The `sql_copy` step: stream rows from one table or query into another table."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from nomaflow.steps.base import Interrupt, Step
from nomaflow.steps.copying.settings import UNAVAILABLE, Source, Target, offered


class SqlCopy(Step):
    """Copy rows from a source table or query into a target table, streaming."""

    type_name: ClassVar[str] = "sql_copy"
    title: ClassVar[str] = "SQL copy"
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (("source", "query"), ("source", "where"))

    source: Source = Field(description="Where rows come from.")
    target: Target = Field(description="Where rows go.")
    mode: Literal["overwrite", "append", "upsert"] = Field(
        "overwrite",
        description="overwrite: the target equals the source afterwards and is never seen empty; "
        "append: rows are added; upsert: inserted or updated by the target's primary key.",
    )
    batch_size: int = Field(
        10_000, ge=1, le=1_000_000, description="Rows per progress line and per fetch."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Target column to source column; absent: columns meet by name.",
    )
    min_rows: int = Field(
        0, ge=0, description="Fewer rows at the source fail the step before anything changes."
    )
    max_delete: (
        Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?%$")] | Annotated[int, Field(ge=0)] | None
    ) = Field(
        None,
        description="Rows that overwrite may remove from the target: a number, or a share as 20%.",
    )
    check_rows: bool = Field(
        default=True, description="Compare the rows read with the rows written before keeping them."
    )
    streams: Literal["auto", 1, 2, 4] = Field(
        "auto", description="Parallel streams; this version uses one."
    )
    transform: str | None = Field(
        None, description="module:function called for each row. Not available in this version."
    )
    type_coercion: Literal["none", "jde"] = Field("none", description="Only none in this version.")
    decimal_mode: Literal["preserve", "truncate"] = Field(
        "preserve", description="Only preserve in this version."
    )
    strip_both_columns: tuple[str, ...] = Field((), description="Not available in this version.")

    @field_validator(*UNAVAILABLE, mode="before")
    @classmethod
    def _available(cls, value: Any, info: ValidationInfo) -> Any:
        return offered(str(info.field_name), value)

    def interrupt_default(self) -> Interrupt:
        """Repeating a copy changes nothing more, save that appended rows may be in already."""
        return "fail" if self.mode == "append" else "retry"
