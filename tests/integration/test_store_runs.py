"""Births, claims and moves against the real database: once, fenced, and in one count."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest

from nomaflow import moves
from nomaflow.errors import Failure
from nomaflow.lifecycle import Onward, Result, RunStatus, StepStatus
from nomaflow.retry import RetryPolicy
from nomaflow.store import births, claims, database, leases, logs, pulse, runs, step_outputs
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.transitions import Line, NewDelivery

DONE = Result({"rows": 1}, "1 row", 1, input={"q": 1})


async def born(db, *names, **facts):
    steps = [NewStep(n, "sql_query") for n in names or ("one", "two")]
    async with db.transaction() as connection:
        return await births.insert(
            connection,
            NewRun(job_name="job", trigger="api", triggered_by="api", steps=steps, **facts),
        )


async def claim(db, owner="w1", limit=10, **more):
    return await claims.claim(db, owner, limit=limit, lease_seconds=15, tags=["default"], **more)


async def events(db, run_id):
    rows = await db.fetch(
        "SELECT seq, kind, payload FROM run_events WHERE run_id = $1 ORDER BY seq", run_id
    )
    return [
        (r["seq"], r["kind"], r["payload"].get("step"), r["payload"].get("status")) for r in rows
    ]


async def test_a_run_is_born_queued_with_its_steps_pending(db):
    run_id = await born(db)
    state = await runs.held(db, run_id)
    assert state.status is RunStatus.QUEUED
    assert [s.status for s in state.steps] == [StepStatus.PENDING] * 2
    assert await events(db, run_id) == [(1, "run", None, "queued")]


async def test_a_claim_starts_the_first_step_in_the_same_statement(db):
    run_id = await born(db)
    (mine,) = await claim(db)
    assert mine.run_id == run_id
    assert mine.opened == 0
    assert mine.held.current.status is StepStatus.RUNNING
    assert mine.held == await runs.held(db, run_id)
    assert await claim(db, "w2") == []
    assert await events(db, run_id) == [
        (1, "run", None, "queued"),
        (2, "run", None, "running"),
        (3, "step", "one", "running"),
    ]
    assert mine.seq == 3


async def test_many_workers_claim_each_run_once(db):
    ids = {await born(db, "one") for _ in range(40)}
    taken = await asyncio.gather(*(claim(db, f"w{i}", limit=7) for i in range(12)))
    got = [c.run_id for batch in taken for c in batch]
    assert len(got) == len(set(got))
    while len(got) < len(ids):
        got += [c.run_id for c in await claim(db, "late")]
    assert set(got) == ids


async def test_a_chain_of_n_steps_costs_n_plus_two_writes_and_leaves_a_gapless_count(db):
    run_id = await born(db, "one", "two")
    (mine,) = await claim(db)
    held = mine.held
    line = Line(datetime.now(UTC), 20, "one", "hello")
    move = moves.succeed(held, DONE, Onward(opens=1))
    assert await runs.apply(db, move, [line]) == 6
    held = held.after(move)
    end = moves.succeed(held, DONE, Onward())
    assert await runs.apply(db, end) == 8
    row = await db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
    assert row["status"] == "succeeded"
    assert row["rows_affected"] == 2
    assert row["lease_owner"] is None
    assert row["log_lines"] == 1
    seqs = [e[0] for e in await events(db, run_id)]
    lines = [r["seq"] for r in await db.fetch("SELECT seq FROM log_lines WHERE run_id=$1", run_id)]
    assert sorted(seqs + lines) == list(range(1, 9))
    tries = await db.fetch("SELECT * FROM attempts WHERE run_id = $1 ORDER BY position", run_id)
    assert [(t["position"], t["number"], t["status"], t["worker"]) for t in tries] == [
        (0, 1, "succeeded", "w1"),
        (1, 1, "succeeded", "w1"),
    ]
    assert all(t["started_at"] and t["finished_at"] for t in tries)


async def test_a_worker_that_lost_its_claim_writes_nothing(db):
    run_id = await born(db, "one")
    (old,) = await claim(db, "w1")
    await db.execute(
        "UPDATE runs SET lease_expires_at = now() - interval '1 s' WHERE id = $1", run_id
    )
    await db.execute("INSERT INTO pulse VALUES (true, now() - interval '1 h', 'infinity')")
    (new,) = await claims.claim(db, "w2", limit=5, lease_seconds=15, tags=["default"], expired=True)
    assert new.rescued
    assert new.opened is None
    assert new.held.current.status is StepStatus.RUNNING
    before = await db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
    assert await runs.apply(db, moves.succeed(old.held, DONE, Onward())) is None
    assert (
        await logs.append(db, run_id, old.held.fence, [Line(datetime.now(UTC), 20, None, "x")])
        is None
    )
    assert await logs.progress(db, run_id, old.held.fence, 0, {"done": 1}) is None
    assert not await logs.note(db, run_id, old.held.fence, 0, shown_input={"a": 1})
    assert await db.fetchrow("SELECT * FROM runs WHERE id = $1", run_id) == before
    move = moves.interrupt(new.held, RetryPolicy(), repeatable=True, why="its worker is gone")
    assert await runs.apply(db, move) is not None
    assert await runs.apply(db, moves.succeed(new.held.after(move), DONE, Onward())) is not None
    tries = await db.fetch("SELECT number, status, error FROM attempts ORDER BY number")
    assert [(t["number"], t["status"]) for t in tries] == [(1, "failed"), (2, "succeeded")]
    assert tries[0]["error"]["message"] == "its worker is gone"


async def test_a_retry_that_waits_long_goes_back_to_the_queue_and_comes_back(db):
    run_id = await born(db, "one")
    (mine,) = await claim(db)
    move = moves.fail(mine.held, Failure("E", "no"), RetryPolicy(attempts=2, base_seconds=30))
    await runs.apply(db, move)
    held = mine.held.after(move)
    await runs.apply(db, moves.release(held, "waiting", not_before_seconds=30))
    assert await claim(db) == []
    row = await db.fetchrow("SELECT status, not_before, started_at FROM runs WHERE id=$1", run_id)
    assert row["status"] == "queued"
    assert row["not_before"] is not None
    assert row["started_at"] is not None
    await db.execute("UPDATE runs SET not_before = now() WHERE id = $1", run_id)
    (again,) = await claim(db, "w2")
    assert again.held.current.attempt == 2
    assert again.held.fence > mine.held.fence


async def test_a_failed_end_keeps_whole_outputs_for_a_resume_and_queues_its_alerts(db):
    run_id = await born(db, "one", "two")
    (mine,) = await claim(db)
    whole = {"body": ["x"] * 1000}
    big = Result({"body": "preview"}, "big", whole_output=whole)
    move = moves.succeed(mine.held, big, Onward(opens=1))
    await runs.apply(db, move)
    found = await step_outputs.of_run(db, run_id)
    assert found["one"]["output"] == whole
    held = mine.held.after(move)
    end = moves.fail(held, Failure("E", "no"), RetryPolicy())
    alert = NewDelivery("job", "failed", "ops", "", {"a": 1})
    await runs.apply(db, end, (), [alert, alert])
    assert await db.fetchval("SELECT count(*) FROM step_outputs") == 1
    assert await db.fetchval("SELECT count(*) FROM deliveries") == 1


async def test_success_forgets_whole_outputs(db):
    await born(db, "one", "two")
    (mine,) = await claim(db)
    big = Result({"body": "preview"}, "big", whole_output={"body": ["x"] * 1000})
    move = moves.succeed(mine.held, big, Onward(opens=1))
    await runs.apply(db, move)
    await runs.apply(db, moves.succeed(mine.held.after(move), DONE, Onward()))
    assert await db.fetchval("SELECT count(*) FROM step_outputs") == 0


async def test_the_table_repeats_the_law(db):
    run_id = await born(db)
    for wrong in (
        "status = 'running'",
        "status = 'succeeded'",
        "status = 'lost'",
        "lease_owner = 'me'",
        "status = 'skipped', finished_at = now()",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute(f"UPDATE runs SET {wrong} WHERE id = $1", run_id)


async def test_renewal_answers_what_is_still_ours_and_who_wants_it_stopped(db):
    run_id = await born(db)
    (mine,) = await claim(db)
    fences = {run_id: mine.held.fence}
    (kept,) = await leases.renew(db, "w1", fences, 15)
    assert (kept.run_id, kept.fence, kept.abort_requested_by) == (run_id, mine.held.fence, None)
    assert await runs.request_abort(db, run_id, "api", "too slow")
    (kept,) = await leases.renew(db, "w1", fences, 15)
    assert (kept.abort_requested_by, kept.abort_reason) == ("api", "too slow")
    assert await leases.renew(db, "w1", {run_id: mine.held.fence - 1}, 15) == []
    assert await leases.renew(db, "w2", fences, 15) == []


async def test_declared_tables_are_the_migrated_ones(database_url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from nomaflow.store.tables import every

    def differences(connection):
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_server_default": False,
                "version_table_schema": "nomaflow",
                "include_name": lambda name, kind, _p: kind != "schema" or name == "nomaflow",
                "include_object": lambda _o, _n, kind, _r, _c: (
                    kind not in {"index", "unique_constraint"}
                ),
            },
        )
        return compare_metadata(context, every.metadata)

    engine = create_async_engine(database.sqlalchemy_url(database_url), poolclass=NullPool)
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert found == []


async def test_a_lease_runs_out_only_after_one_whole_lease_without_a_gap(db):
    run_id = await born(db, "one")
    await claim(db, "gone")
    await db.execute("UPDATE runs SET lease_expires_at = now() - interval '1 h'")

    async def rescued():
        return [c.run_id for c in await claim(db, "w2", expired=True)]

    assert await rescued() == []  # nobody has beaten yet
    await pulse.beat(db, 15)
    assert await rescued() == []  # nobody was within reach for a whole lease
    await db.execute("UPDATE pulse SET since = now() - interval '1 h', at = now() - interval '8 s'")
    assert await rescued() == []  # and now it is not clear whether anybody is
    await pulse.beat(db, 15)
    assert await rescued() == []  # the first one after a gap begins anew
    await db.execute("UPDATE pulse SET since = now() - interval '1 h', at = now() - interval '7 s'")
    await pulse.beat(db, 15)
    assert await rescued() == [run_id]
