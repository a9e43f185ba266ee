"""What must hold of any history, whatever was broken while it was made, as statements over it."""

from collections import defaultdict

from judge import Judge

from nomaflow.lifecycle import RUN_EDGES, STEP_EDGES, RunStatus, StepStatus
from nomaflow.store.database import Database

LAWS = {
    "one run for each due time": """
        SELECT schedule_id, scheduled_for FROM runs WHERE schedule_id IS NOT NULL
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "a fired due time has its run": """
        SELECT s.* FROM slots s LEFT JOIN runs r ON r.id = s.run_id
        WHERE s.outcome = 'fired' AND (r.id IS NULL OR r.scheduled_for <> s.due_at)""",
    "no step completed twice": """
        SELECT run_id, position FROM attempts WHERE status = 'succeeded'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "what succeeded has an attempt that did": """
        SELECT s.run_id, s.position FROM step_runs s
        WHERE status = 'succeeded' AND NOT EXISTS (SELECT FROM attempts a
          WHERE a.run_id = s.run_id AND a.position = s.position
            AND a.number = s.tries AND a.status = 'succeeded')""",
    "tries are counted without a gap": """
        SELECT s.run_id, s.position FROM step_runs s
        JOIN runs r ON r.id = s.run_id AND r.finished_at IS NOT NULL
        LEFT JOIN attempts a USING (run_id, position)
        GROUP BY s.run_id, s.position, s.tries
        HAVING count(a.number) <> s.tries OR coalesce(max(a.number), 0) <> s.tries""",
    "running means leased": """
        SELECT id FROM runs WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)""",
    "every run is over": "SELECT id, status FROM runs WHERE finished_at IS NULL",
    "a run that succeeded did all its steps": """
        SELECT r.id, s.position, s.status FROM runs r JOIN step_runs s ON s.run_id = r.id
        WHERE r.status = 'succeeded' AND s.status NOT IN ('succeeded', 'skipped')""",
    "a run that waits has no step that runs": """
        SELECT r.id, s.position FROM runs r JOIN step_runs s ON s.run_id = r.id
        WHERE r.status = 'queued' AND s.status = 'running'""",
    "a run that is over has no step that is not": """
        SELECT r.id, s.position, s.status FROM runs r JOIN step_runs s ON s.run_id = r.id
        WHERE r.finished_at IS NOT NULL AND s.finished_at IS NULL""",
    "events and lines share one count without a gap": """
        SELECT r.id, r.seq FROM runs r JOIN (
          SELECT run_id, seq FROM run_events UNION ALL SELECT run_id, seq FROM log_lines
        ) e ON e.run_id = r.id
        GROUP BY r.id HAVING count(*) <> r.seq OR count(DISTINCT e.seq) <> r.seq
          OR min(e.seq) <> 1 OR max(e.seq) <> r.seq""",
    "each interruption is an attempt": """
        SELECT r.id, r.interruptions FROM runs r WHERE r.interruptions <> (
          SELECT count(*) FROM attempts a
          WHERE a.run_id = r.id AND a.error ->> 'type' = 'Interrupted')""",
}


async def broken(db: Database, judge: Judge) -> dict[str, list[object]]:
    """The laws that do not hold, each with what breaks it; empty is what we want."""
    found = {name: [dict(row) for row in await db.fetch(sql)] for name, sql in LAWS.items()}
    found["statuses move along the drawn edges"] = await _off_the_edges(db)
    found["nothing is done again once it is done"] = await _done_again(db, judge)
    return {name: rows for name, rows in found.items() if rows}


async def _off_the_edges(db: Database) -> list[object]:
    rows = await db.fetch(
        """SELECT run_id, kind, payload ->> 'step' AS step, payload ->> 'status' AS status
           FROM run_events WHERE kind IN ('run', 'step') ORDER BY run_id, seq"""
    )
    last: dict[tuple[object, str | None], str] = {}
    wrong: list[object] = []
    for row in rows:
        key, now = (row["run_id"], row["step"]), row["status"]
        before = last.get(key, "pending" if row["kind"] == "step" else None)
        last[key] = now
        if before is None:
            ok = now in {"queued", "skipped"}
        elif row["kind"] == "step":
            ok = StepStatus(now) in STEP_EDGES[StepStatus(before)]
        else:
            ok = RunStatus(now) in RUN_EDGES[RunStatus(before)]
        if not ok:
            wrong.append((*key, before, now))
    return wrong


async def _done_again(db: Database, judge: Judge) -> list[object]:
    """Steps that the judge saw begin although history held them as succeeded already."""
    rows = await db.fetch(
        """SELECT s.run_id::text AS run, s.name, extract(epoch FROM a.finished_at)::float8 AS done
           FROM attempts a JOIN step_runs s USING (run_id, position) WHERE a.status = 'succeeded'"""
    )
    began = judge.began()
    wrong: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        later = [
            at - row["done"] for at in began.get((row["run"], row["name"]), ()) if at > row["done"]
        ]
        if later:
            wrong[row["run"], row["name"]] = later
    return [(key, later) for key, later in wrong.items() if later]
