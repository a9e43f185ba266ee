"""Log lines and progress of a run while a step works: written in small batches, under the claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nomaflow.store.database import Connection, Database
    from nomaflow.store.transitions import Line

_APPEND = """
WITH run AS (
  UPDATE nomaflow.runs SET seq = seq + $3, log_lines = log_lines + $3
  WHERE id = $1 AND fence = $2 AND status = 'running' RETURNING id, seq
), lines AS (
  INSERT INTO nomaflow.log_lines (run_id, seq, at, level, step, message)
  SELECT run.id, run.seq - $3 + l.ord, l.at, l.level, l.step, l.message
  FROM run, unnest($4::timestamptz[], $5::smallint[], $6::text[], $7::text[])
    WITH ORDINALITY AS l (at, level, step, message, ord)
)
SELECT seq FROM run"""


async def append(
    connection: Connection | Database, run_id: UUID, fence: int, lines: Sequence[Line]
) -> int | None:
    """Add lines to a running run; the number of the last one, or None when the claim is lost."""
    seq: int | None = await connection.fetchval(
        _APPEND,
        run_id,
        fence,
        len(lines),
        [line.at for line in lines],
        [line.level for line in lines],
        [line.step for line in lines],
        [line.message for line in lines],
    )
    return seq


_PROGRESS = """
WITH run AS (
  UPDATE nomaflow.runs SET seq = seq + 1
  WHERE id = $1 AND fence = $2 AND status = 'running' RETURNING id, seq
), step AS (
  UPDATE nomaflow.step_runs s SET progress = $4 FROM run
  WHERE s.run_id = run.id AND s.position = $3
  RETURNING s.name
), event AS (
  INSERT INTO nomaflow.run_events (run_id, seq, kind, payload)
  SELECT run.id, run.seq, 'progress', jsonb_build_object('step', step.name, 'progress', $4::jsonb)
  FROM run, step
)
SELECT seq FROM run"""


async def progress(
    connection: Connection | Database,
    run_id: UUID,
    fence: int,
    position: int,
    state: Mapping[str, Any],
) -> int | None:
    """Record how far a step has come; None when the claim is lost."""
    seq: int | None = await connection.fetchval(_PROGRESS, run_id, fence, position, dict(state))
    return seq


async def note(
    connection: Connection | Database,
    run_id: UUID,
    fence: int,
    position: int,
    *,
    shown_input: Any = None,
    backends: Sequence[Mapping[str, Any]] | None = None,
) -> bool:
    """Note the input of a step that is taking long, or the server processes that work for it."""
    return bool(
        await connection.fetchval(
            """UPDATE nomaflow.step_runs s
               SET input = coalesce($4, s.input), backends = coalesce($5, s.backends)
               FROM nomaflow.runs r
               WHERE r.id = $1 AND r.fence = $2 AND r.status = 'running'
                 AND s.run_id = r.id AND s.position = $3
               RETURNING true""",
            run_id,
            fence,
            position,
            shown_input,
            None if backends is None else [dict(b) for b in backends],
        )
    )


async def backends_of(
    connection: Connection | Database, run_id: UUID, position: int
) -> list[dict[str, Any]]:
    """Server processes that an earlier try of this step may have left working."""
    found: list[dict[str, Any]] | None = await connection.fetchval(
        "SELECT backends FROM nomaflow.step_runs WHERE run_id = $1 AND position = $2",
        run_id,
        position,
    )
    return found or []
