"""Step types of a package of its own: a checksum of a table, and a file that is touched."""

from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from nomaflow.errors import StepError
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext


class Checksum(Step):
    """Compare the rows that a query answers with a checksum that is known."""

    type_name: ClassVar[str] = "acme_checksum"
    title: ClassVar[str] = "Checksum of a query"
    # SQL text takes bound parameters; `${...}` in it is refused.
    verbatim: ClassVar[tuple[tuple[str, ...], ...]] = (("query",),)
    # `run` reads only, so a dry run may run it.
    dry_runs: ClassVar[bool] = True

    connector: str = Field("default", description="The SQL connector to ask.")
    query: str = Field(description="A SELECT with `:name` parameters, in an order of its own.")
    params: dict[str, Any] = Field(default_factory=dict, description="Values of the parameters.")
    expected: str | None = Field(None, description="The checksum there must be; absent: any.")
    digits: Literal[8, 64] = Field(64, description="How many digits of it to show and compare.")

    @field_validator("query")
    @classmethod
    def _reads(cls, value: str) -> str:
        if not value.lstrip().lower().startswith("select"):
            raise ValueError("write a SELECT")
        return value

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Read every row once; StepError when the checksum is another one."""
        database = await ctx.sql(self.connector)
        total, rows = sha256(), 0
        async for row in database.stream(self.query, self.params):
            total.update(repr(tuple(row.values())).encode())
            rows += 1
            if rows % 1000 == 0:
                ctx.progress(rows)
        found = total.hexdigest()[: self.digits]
        if self.expected is not None and found != self.expected:
            raise StepError(f"the checksum is {found}, not {self.expected}", retryable=False)
        ctx.log.info("checksum", rows=rows, found=found)
        return StepResult({"rows": rows, "checksum": found}, f"{rows} rows · {found[:8]}")

    def interrupt_default(self) -> Interrupt:
        """It only reads: another worker may do it again."""
        return "retry"


class Touch(Step):
    """Make a file, or set its time to now. Says nothing of dry runs, so it is not run in one."""

    type_name: ClassVar[str] = "acme_touch"
    title: ClassVar[str] = "Touch a file"

    path: str = Field(description="The file.")

    async def run(self, _ctx: StepRunContext) -> StepResult:
        """Touch it."""
        Path(self.path).touch()
        return StepResult({"path": self.path}, self.path)
