"""Retention: old history goes in a visible run, runs in flight stay, and once a day is enough."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from nomaflow.lifecycle import Onward, Result, RunStatus
from nomaflow.moves import succeed
from nomaflow.store import births, claims, deliveries, logs, runs
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.transitions import Line, NewDelivery
from nomaflow_scheduler import prune, sweep

NOW = datetime(2030, 6, 15, 3, 0, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=91)
YOUNG = NOW - timedelta(days=89)


async def history(db, ended, name="j", lines=3, status=RunStatus.SUCCEEDED):
    """A run with two steps and some log lines; `ended` None leaves it running."""
    born = NewRun(
        job_name=name,
        trigger="api",
        triggered_by="api",
        steps=[NewStep("a", "sql_query"), NewStep("b", "sql_query")],
    )
    async with db.transaction() as connection:
        run_id = await births.insert(connection, born)
    (claimed,) = await claims.claim(db, "w", limit=1, lease_seconds=15, tags=["default"])
    assert claimed.run_id == run_id
    written = [Line(ended or NOW, 20, "a", f"line {n}") for n in range(lines)]
    await logs.append(db, run_id, claimed.held.fence, written)
    if ended is None:
        return run_id
    held = claimed.held
    for onward in (Onward(opens=1), Onward()):
        move = succeed(held, Result({"n": 1}, "done"), onward)
        assert await runs.apply(db, move)
        held = held.after(move)
    await db.execute(
        "UPDATE runs SET finished_at = $2, queued_at = $2, status = $3 WHERE id = $1",
        run_id,
        ended,
        status.value,
    )
    return run_id


async def count(db, table, run_id):
    return await db.fetchval(f"SELECT count(*) FROM {table} WHERE run_id = $1", run_id)


async def left(db):
    rows = await db.fetch("SELECT id FROM runs WHERE kind = 'job' ORDER BY id")
    return [row["id"] for row in rows]


async def prune_runs(db):
    rows = await db.fetch("SELECT * FROM runs WHERE kind = 'system' ORDER BY id")
    return [dict(row) for row in rows]


async def one_sweep(db, bell, owner="s1", at=NOW, timezone="UTC", **facts):
    await prune.begin(db, bell, timezone=timezone, history_days=90, at=at)
    return await prune.carry_out(db, bell, owner, history_days=90, at=at, **facts)


async def test_old_runs_go_with_all_that_is_theirs_and_the_run_shows_the_counts(db, bell):
    old = [await history(db, OLD, lines=4), await history(db, OLD, status=RunStatus.FAILED)]
    young = await history(db, YOUNG)
    assert await one_sweep(db, bell) == 1
    assert await left(db) == [young]
    for table in ("step_runs", "attempts", "log_lines", "run_events"):
        assert [await count(db, table, run) for run in old] == [0, 0]
        assert await count(db, table, young) > 0

    (run,) = await prune_runs(db)
    assert (run["job_name"], run["kind"], run["status"]) == ("prune-history", "system", "succeeded")
    assert (run["triggered_by"], run["params"]) == ("cron", {"history_days": 90})
    assert run["scheduled_for"] == datetime(2030, 6, 15, 3, 0, tzinfo=UTC)
    assert run["rows_affected"] == 2
    step = await db.fetchrow("SELECT * FROM step_runs WHERE run_id = $1", run["id"])
    assert (step["name"], step["type"], step["status"]) == ("prune", "prune", "succeeded")
    assert step["output"] == {
        "cutoff": "2030-03-17T03:00:01+00:00",
        "history_days": 90,
        "runs": 2,
        "steps": 4,
        "log_lines": 7,
        "events": 14,
        "slots": 0,
        "alerts": 0,
    }
    assert step["summary"].startswith("runs: 2, steps: 4, log lines: 7, ")
    lines = await db.fetch("SELECT * FROM log_lines WHERE run_id = $1 ORDER BY seq", run["id"])
    assert [line["message"] for line in lines] == [
        "pruning runs that ended before 2030-03-17 03:00:01 UTC",
        f"pruned {step['summary']}",
    ]
    assert {line["step"] for line in lines} == {"prune"}


async def test_a_run_in_flight_is_never_pruned_however_old(db, bell):
    running = await history(db, None)
    async with db.transaction() as connection:
        queued = await births.insert(
            connection, NewRun(job_name="q", trigger="api", triggered_by="api")
        )
    await db.execute("UPDATE runs SET queued_at = $1, started_at = started_at", OLD)
    await db.execute("UPDATE runs SET started_at = $2 WHERE id = $1", running, OLD)
    await one_sweep(db, bell)
    assert await left(db) == [running, queued]  # G12


async def test_batches_are_small_and_add_up(db, bell, monkeypatch):
    monkeypatch.setattr(sweep, "RUNS_AT_A_TIME", 2)
    monkeypatch.setattr(sweep, "ROWS_AT_A_TIME", 3)
    for _ in range(5):
        await history(db, OLD, lines=4)
    await one_sweep(db, bell)
    assert await left(db) == []
    (run,) = await prune_runs(db)
    output = await db.fetchval("SELECT output FROM step_runs WHERE run_id = $1", run["id"])
    assert (output["runs"], output["log_lines"]) == (5, 20)
    progress = await db.fetch(
        "SELECT payload FROM run_events WHERE run_id = $1 AND kind = 'progress' ORDER BY seq",
        run["id"],
    )
    assert [row["payload"]["progress"]["done"] for row in progress] == [2, 4, 5]


async def test_old_slots_and_alerts_go_and_waiting_alerts_stay(db, bell):
    job = await db.fetchval(
        """INSERT INTO jobs (name, origin, app, definition, updated_by)
           VALUES ('j', 'api', 'a', '{}', 't') RETURNING id"""
    )
    clock = await db.fetchval(
        """INSERT INTO schedules (job_id, name, cron) VALUES ($1, 'c', '* * * * *')
           RETURNING id""",
        job,
    )
    await db.execute(
        """INSERT INTO slots (schedule_id, due_at, outcome, reason, until) VALUES
           ($1, $2, 'missed', 'r', NULL), ($1, $3, 'missed', 'r', NULL),
           ($1, $4, 'missed', 'a gap that reaches into what is kept', $3)""",
        clock,
        OLD,
        YOUNG,
        OLD - timedelta(days=5),
    )
    async with db.transaction() as connection:
        told = [NewDelivery("j", "failed", name, "", {}) for name in ("sent", "waits")]
        await deliveries.add(connection, None, told)
    await db.execute("UPDATE deliveries SET at = $1", OLD)
    await db.execute("UPDATE deliveries SET status = 'sent' WHERE channel = 'sent'")
    await one_sweep(db, bell)
    assert await db.fetchval("SELECT count(*) FROM slots") == 2
    assert await db.fetchval("SELECT channel FROM deliveries") == "waits"
    output = await db.fetchval("SELECT output FROM step_runs")
    assert (output["slots"], output["alerts"]) == (1, 1)


async def test_two_schedulers_prune_once_a_day(db, bell):
    await history(db, OLD)
    begun = await asyncio.gather(
        *(prune.begin(db, bell, timezone="UTC", history_days=90, at=NOW) for _ in range(5))
    )
    assert len([run for run in begun if run is not None]) == 1
    done = await asyncio.gather(
        *(prune.carry_out(db, bell, f"s{n}", history_days=90, at=NOW) for n in range(5))
    )
    assert sum(done) == 1
    await db.execute("UPDATE runs SET finished_at = $1 WHERE kind = 'system'", NOW)
    assert await one_sweep(db, bell, at=NOW + timedelta(hours=20)) == 0
    assert await one_sweep(db, bell, at=NOW + timedelta(days=1)) == 1
    assert [run["idempotency_key"] for run in await prune_runs(db)] == ["2030-06-15", "2030-06-16"]


async def test_at_three_in_the_morning_of_the_configured_zone(db, bell):
    paris = "Europe/Paris"  # 03:00 there is 01:00 UTC in June
    before = datetime(2030, 6, 15, 0, 59, 59, tzinfo=UTC)
    assert await one_sweep(db, bell, at=before, timezone=paris) == 0
    assert await one_sweep(db, bell, at=before + timedelta(seconds=1), timezone=paris) == 1
    (run,) = await prune_runs(db)
    assert run["scheduled_for"] == datetime(2030, 6, 15, 1, 0, tzinfo=UTC)
    assert run["idempotency_key"] == "2030-06-15"


async def test_a_new_installation_does_not_prune_at_noon_and_a_machine_off_at_night_does(db, bell):
    noon = NOW + timedelta(hours=9)
    await history(db, YOUNG)
    assert await one_sweep(db, bell, at=noon) == 0
    assert await prune_runs(db) == []
    await history(db, OLD)
    assert await one_sweep(db, bell, at=noon) == 1
    assert len(await left(db)) == 1


async def test_a_sweep_whose_scheduler_died_is_finished_by_another(db, bell):
    await history(db, OLD)
    await prune.begin(db, bell, timezone="UTC", history_days=90, at=NOW)
    (dead,) = await claims.claim(db, "dead", limit=1, lease_seconds=0.1, tags=["_system"])
    await db.execute("INSERT INTO pulse VALUES (true, now() - interval '1 h', 'infinity')")
    assert await prune.carry_out(db, bell, "s2", history_days=90, lease_seconds=0.1, at=NOW) == 0
    await db.execute("UPDATE runs SET lease_expires_at = '2020-01-01' WHERE kind = 'system'")
    assert await prune.carry_out(db, bell, "s2", history_days=90, lease_seconds=0.1, at=NOW) == 1
    (run,) = await prune_runs(db)
    assert (run["id"], run["status"], run["interruptions"]) == (dead.run_id, "succeeded", 1)
    assert await left(db) == []
    tries = await db.fetch("SELECT number, status FROM attempts ORDER BY number")
    assert [tuple(row) for row in tries] == [(1, "failed"), (2, "succeeded")]


async def when_runs_are_deleted(db, action):
    """Let the database do something else in the middle of the sweep."""
    await db.execute(
        f"""CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN {action} WHERE kind = 'system' AND status = 'running'; RETURN NULL; END $$"""
    )
    await db.execute(
        """CREATE TRIGGER meanwhile AFTER DELETE ON runs
           FOR EACH STATEMENT EXECUTE FUNCTION meanwhile()"""
    )


async def test_a_sweep_that_lost_its_claim_writes_nothing_more(db, bell):
    await history(db, OLD)
    await when_runs_are_deleted(db, "UPDATE runs SET fence = fence + 1, lease_owner = 'other'")
    await one_sweep(db, bell)
    (run,) = await prune_runs(db)
    assert (run["status"], run["lease_owner"]) == ("running", "other")


async def test_a_sweep_can_be_aborted_between_two_batches(db, bell, monkeypatch):
    monkeypatch.setattr(sweep, "RUNS_AT_A_TIME", 1)
    for _ in range(3):
        await history(db, OLD)
    await when_runs_are_deleted(
        db,
        """UPDATE runs SET abort_requested_at = now(), abort_requested_by = 'user:ann',
           abort_reason = 'too busy'""",
    )
    await one_sweep(db, bell)
    (run,) = await prune_runs(db)
    assert (run["status"], run["reason"]) == ("aborted", "aborted by user:ann: too busy")
    assert len(await left(db)) == 2


async def test_a_stopping_scheduler_hands_its_sweep_back(db, bell):
    old = await history(db, OLD)
    async with db.transaction() as holding:
        await holding.execute("SELECT 1 FROM runs WHERE id = $1 FOR UPDATE", old)
        task = asyncio.create_task(one_sweep(db, bell))
        blocked = """SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        while not await db.fetchval(blocked):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (run,) = await prune_runs(db)
    assert run["status"] == "queued"
    assert await prune.carry_out(db, bell, "s2", history_days=90, at=NOW) == 1
    (run,) = await prune_runs(db)
    assert run["status"] == "succeeded"
    assert await left(db) == []


async def test_a_sweep_that_fails_says_why(db, bell):
    await history(db, OLD)
    await db.execute("CREATE TABLE keeps (run uuid REFERENCES runs (id))")
    await db.execute("INSERT INTO keeps SELECT id FROM runs")
    await one_sweep(db, bell)
    (run,) = await prune_runs(db)
    assert run["status"] == "failed"
    assert "violates foreign key constraint" in run["error"]["message"]


async def test_a_job_cannot_borrow_the_schedulers_own_tag(db, bell):
    async with db.transaction() as connection:
        await births.insert(
            connection,
            NewRun(
                job_name="j",
                trigger="api",
                triggered_by="api",
                worker_tag="_system",
                steps=[NewStep("a", "python")],
            ),
        )
    await prune.carry_out(db, bell, "s1", history_days=90, at=NOW)
    run = await db.fetchrow("SELECT * FROM runs")
    assert run["status"] == "failed"
    assert "belongs to the scheduler's own runs" in run["reason"]
