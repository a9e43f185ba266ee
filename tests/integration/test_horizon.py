"""What a forecast reads: outlines of jobs and their clocks, and a definition at most once."""

from datetime import UTC, datetime, timedelta

from nomaflow.clock.calendars import Action, Blackout
from nomaflow.clock.forecast import Closures
from nomaflow.in_force import horizon
from nomaflow.store import job_pages

NOW = datetime.now(UTC)
DARK = Blackout("d", NOW, NOW + timedelta(hours=1), (), ("store",), Action.SKIP)
JOB = """
[[jobs]]
name = "{name}"
schedule = "0 * * * *"
[[jobs.steps]]
name = "a"
type = "sql_query"
connector = "${{kw:place}}"
query = "SELECT 1"
[jobs.params]
place = "{place}"
"""


async def declared(shop, count):
    text = "".join(JOB.format(name=f"j{n}", place="default") for n in range(count))
    synced = await shop.declare(text)
    assert not synced.problems


async def looked(db, above, names=None):
    """The clocks that a forecast sees, and the statements that it sends for them."""
    asked = []
    async with db.transaction() as connection:
        with connection.query_logger(lambda record: asked.append(record.query)):
            jobs = await job_pages.outlines(connection, names)
            clocks = await horizon.clocks(connection, above, jobs)
    return clocks, asked


async def test_a_forecast_asks_twice_however_many_jobs_there_are(shop):
    await declared(shop, 120)
    clocks, asked = await looked(shop.db, Closures())
    assert (len(clocks), len(asked)) == (120, 2)
    clocks, asked = await looked(shop.db, Closures(), ["j1", "j7"])
    assert ([clock.job for clock in clocks], len(asked)) == (["j1", "j7"], 2)


async def test_what_jobs_reach_for_is_read_once_from_a_revision(shop):
    await declared(shop, 120)
    dark = Closures(blackouts=(DARK,))
    clocks, asked = await looked(shop.db, dark)
    assert {clock.connectors for clock in clocks} == {("default",)}
    assert len(asked) > 2
    again, asked = await looked(shop.db, dark)
    assert (again, len(asked)) == (clocks, 2)
    await shop.db.execute(
        "UPDATE schedules SET params = $1 WHERE job_id = (SELECT id FROM jobs WHERE name = 'j3')",
        {"place": "store"},
    )
    changed, _ = await looked(shop.db, dark)
    assert [clock.job for clock in changed if clock.connectors == ("store",)] == ["j3"]


async def test_a_definition_that_cannot_be_read_any_more_hides_no_other_clock(shop):
    await declared(shop, 3)
    await shop.db.execute(
        "UPDATE jobs SET definition = $1, revision = 9 WHERE name = 'j1'", {"steps": 1}
    )
    clocks, _ = await looked(shop.db, Closures(blackouts=(DARK,)))
    assert {clock.job: clock.connectors for clock in clocks} == {
        "j0": ("default",),
        "j1": (),
        "j2": ("default",),
    }
