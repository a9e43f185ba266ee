"""Which row a COPY was at when the server refused it."""

from __future__ import annotations

from collections.abc import Sequence

from nomaflow.errors import StepError
from nomaflow.steps.copying import lines, telling


def placed(
    error: StepError, table: str, columns: Sequence[str], sent: Sequence[bytes], before: int
) -> StepError:
    """The error with the number of the row, its column and, where `sent` has its line, its values.

    `sent` are the lines of COPY's text form since the COPY began, and `before` how many rows went
    in earlier ones.
    """
    context = str(getattr(error.__cause__, "context", None) or "")
    head = f"COPY {table}, line "
    if not context.startswith(head):
        return error
    number, _, rest = context.removeprefix(head).partition(",")
    number = number.partition(":")[0]
    if not number.isdecimal():
        return error
    row = int(number)
    named = [name for name in columns if rest.startswith(f" column {name}")]
    column = max(named, key=len, default=None)
    whole = b"".join(sent).split(b"\n") if sent else []
    shown = ""
    if row < len(whole):
        cells = lines.decode(whole[row - 1] + b"\n")[0]
        if len(cells) == len(columns):
            nul = (n for n, cell in zip(columns, cells, strict=True) if cell and "\0" in cell)
            column = column or next(nul, None)
            shown = f" {telling.row(columns, cells, column)}"
    of = f", column {column!r}" if column else ""
    words = error.message.replace(f"; where: {context}", "")
    return error.reworded(f"{words}; in row {before + row} of the source{of}{shown}")
