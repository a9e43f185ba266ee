"""What a sync tells of itself: its output, its summary, what was left undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nomaflow.steps.base import StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.directory.batch import Failures
from nomaflow.steps.directory.target import Changes, Deletion


@dataclass(slots=True)
class Read:
    """What came of the directory; `references` lead to other servers and are not followed."""

    entries: int = 0
    pages: int = 0
    references: int = 0


def result(
    ctx: StepRunContext,
    read: Read,
    changes: Changes,
    failures: Failures,
    elapsed_ms: int,
    deletion: Deletion,
) -> StepResult:
    """The step's result; its last words also go to the log."""
    upserted = changes.written
    if upserted is None:
        upserted = changes.inserted + changes.updated
    output: dict[str, Any] = {
        "entries": read.entries,
        "pages": read.pages,
        "references": read.references,
        "inserted": changes.inserted,
        "updated": changes.updated,
        "unchanged": changes.unchanged,
        "deleted": changes.deleted,
        "failed": failures.count,
        # The same in the words of the first vocabulary.
        "fetched": read.entries,
        "upserted": upserted,
        "pruned": changes.deleted,
        "elapsed_ms": elapsed_ms,
    }
    if failures.count:
        output["failures"] = failures.examples
    said = _summary(read, changes, failures, deletion)
    if ctx.dry_run:
        said = f"dry run: {said}"
        output |= {"dry_run": True, "examples": changes.examples}
        if changes.refusal:
            output["refusal"] = changes.refusal
            ctx.log.warning(f"a real run would be refused: {changes.refusal}")
    ctx.log.info(said)
    left_out = counted(failures.count, "entry", "entries")
    return StepResult(
        output,
        said,
        0 if ctx.dry_run else upserted + changes.deleted,
        reason=f"{left_out} left out" if failures.count else None,
    )


def _summary(read: Read, changes: Changes, failures: Failures, deletion: Deletion) -> str:
    parts = [counted(read.entries, "entry", "entries")]
    if changes.written is not None:
        parts.append(f"{changes.written} written")
    else:
        parts += [f"{changes.inserted} new", f"{changes.updated} changed"]
        parts.append(f"{changes.unchanged} the same")
    if deletion != "none":
        parts.append(f"{changes.deleted} {'flagged' if deletion == 'soft' else 'gone'}")
    if failures.count:
        parts.append(f"{failures.count} left out")
    return " · ".join(parts)
