"""Watermarks, checkpoints and failed batches in the real database: written under the claim only."""

from dataclasses import replace
from uuid import UUID

from workshop import working, workshop

from nomaflow import moves
from nomaflow.errors import Failure
from nomaflow.lifecycle import Onward, Result
from nomaflow.retry import RetryPolicy
from nomaflow.store import births, checkpoints, claims, failed_batches, runs, watermarks
from nomaflow.store.births import NewRun, NewStep
from nomaflow.store.failed_batches import NewFailedBatch, Wanted
from nomaflow.store.keyset import Window


async def claimed(db, *names):
    steps = [NewStep(name, "http_sync") for name in names or ("one", "two")]
    async with db.transaction() as connection:
        await births.insert(
            connection, NewRun(job_name="job", trigger="api", triggered_by="api", steps=steps)
        )
    (mine,) = await claims.claim(db, "w1", limit=1, lease_seconds=15, tags=["default"])
    return mine.held


def done(**marks):
    return Result({}, "", watermarks=marks or None)


async def written(db, held, move):
    assert await runs.apply(db, move) is not None
    return held.after(move)


async def test_proposals_are_written_by_the_move_that_succeeds_the_last_step_winning(db):
    held = await claimed(db)
    held = await written(db, held, moves.succeed(held, done(a="1", b="1"), Onward(opens=1)))
    assert await watermarks.of_job(db, "job") == {}
    await written(db, held, moves.succeed(held, done(b="2", c="2"), Onward()))
    assert await watermarks.of_job(db, "job") == {"a": "1", "b": "2", "c": "2"}
    assert (await watermarks.get(db, "job", "a")).run_id == held.run_id


async def test_no_other_end_of_a_run_writes_them(db):
    def fails(held):
        return moves.fail(held, Failure("E", "no"), RetryPolicy())

    def aborts(held):
        return moves.abort(held, "wrong day")

    def partial(held):
        return moves.succeed(held, replace(done(b="2"), reason="1 batch failed"), Onward())

    for end in (fails, aborts, partial):
        held = await claimed(db)
        held = await written(db, held, moves.succeed(held, done(a="1"), Onward(opens=1)))
        await written(db, held, end(held))
    assert await watermarks.of_job(db, "job") == {}


async def test_a_lost_claim_writes_nothing(db):
    held = await claimed(db, "one")
    await db.execute("UPDATE runs SET fence = fence + 1")
    assert await runs.apply(db, moves.succeed(held, done(a="1"), Onward())) is None
    batch = [NewFailedBatch(1, 1, [1], "no")]
    assert not await checkpoints.write(db, held.run_id, held.fence, 0, {"page": 2}, batch)
    assert not await checkpoints.begin_anew(db, held.run_id, held.fence, 0)
    assert await watermarks.of_job(db, "job") == {}
    assert await checkpoints.read(db, held.run_id, 0) is None
    assert await failed_batches.count(db, Wanted(job="job")) == 0


async def test_a_person_sets_and_forgets(db):
    await watermarks.set(db, "job", "a", "1")
    await watermarks.set(db, "job", "a", "2", UUID(int=7))
    await watermarks.set(db, "other", "a", "3")
    found = await watermarks.of_jobs(db, ["job", "other", "none"])
    assert [(m.name, m.value, m.run_id) for m in found["job"]] == [("a", "2", UUID(int=7))]
    assert await watermarks.reset(db, "job", "a")
    assert not await watermarks.reset(db, "job", "a")
    assert await watermarks.get(db, "job", "a") is None
    assert await watermarks.of_job(db, "other") == {"a": "3"}


async def test_checkpoints_and_failed_batches_come_and_go_together(db):
    held = await claimed(db, "one")
    batches = [NewFailedBatch(1, n, [{"n": n}, [n]], f"no {n}") for n in (3, 5)]
    where = (held.run_id, held.fence, 0)
    assert await checkpoints.write(db, *where, {"page": 2}, batches)
    assert await checkpoints.write(db, *where, {"page": 3})
    assert await checkpoints.read(db, held.run_id, 0) == {"page": 3}
    page = await failed_batches.page(db, Wanted(run_id=held.run_id), Window(10))
    assert [(row.batch, row.items, row.status) for row in page.rows] == [
        (5, 2, "pending"),
        (3, 2, "pending"),
    ]
    kept = await failed_batches.payloads(db, [row.id for row in page.rows])
    assert kept[page.rows[1].id] == [{"n": 3}, [3]]
    # The same page once more, after a crash: its batches are not there twice.
    assert await checkpoints.write(db, *where, {"page": 3}, batches)
    assert await failed_batches.count(db, Wanted(job="job", status="pending")) == 2
    assert await checkpoints.begin_anew(db, *where)
    assert await checkpoints.read(db, held.run_id, 0) is None
    assert await failed_batches.count(db, Wanted(job="job")) == 0


async def test_failed_batches_go_with_their_run(db):
    held = await claimed(db, "one")
    batch = [NewFailedBatch(None, 1, [], "no")]
    assert await checkpoints.write(db, held.run_id, held.fence, 0, None, batch)
    await db.execute("DELETE FROM runs")
    assert await failed_batches.count(db, Wanted()) == 0


READS = """
[[jobs]]
name = "reads"
params = { since = "${state.last:-never}" }
[[jobs.steps]]
name = "look"
type = "sql_query"
connector = "default"
query = "SELECT :a AS a, :b AS b, :c AS c"
params = { a = "${kw:since}", b = "from ${state:last:-never}", c = "${state.other:-}" }
fetch = "first"
[[jobs.steps]]
name = "only-then"
type = "sql_query"
connector = "default"
query = "SELECT 1"
when = "state.last == 'monday'"
"""


async def test_any_field_and_any_condition_reads_them(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as shop, working(shop):
        await shop.declare(READS)
        run = await shop.run("reads")
        look, only = await shop.steps(run["id"])
        assert look["output"]["first_row"] == {"a": "never", "b": "from never", "c": ""}
        assert only["status"] == "skipped"
        await watermarks.set(shop.db, "reads", "last", "monday")
        run = await shop.run("reads")
        look, only = await shop.steps(run["id"])
        assert look["output"]["first_row"] == {"a": "monday", "b": "from monday", "c": ""}
        assert only["status"] == "succeeded"
