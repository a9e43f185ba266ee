"""A worker is killed in the middle of a copy: the target is whole, and the next copy cleans up."""

import asyncio

import pytest
import size
from house import House
from test_deletion_killed import NUMBERS, OfMariaDb, OfSqlite

ROWS = 400
SLOW = f"SELECT g AS id, 'new' AS v, pg_sleep(0.005)::text AS n FROM generate_series(1, {ROWS}) g"
QUICK = f"SELECT g AS id, 'new' AS v, NULL::text AS n FROM generate_series(1, {ROWS}) g"
KEPT = (
    "CREATE TABLE kept (id int PRIMARY KEY, v varchar(9), n varchar(9))",
    "INSERT INTO kept (id, v) VALUES (1, 'old'), (7, 'old'), (99999, 'old')",
)
# What makes each new row take its time, so that there is a middle of the commit to be killed in.
SLOWED = {
    OfMariaDb: "CREATE TRIGGER s BEFORE INSERT ON kept FOR EACH ROW SET @slept = SLEEP(0.015)",
    OfSqlite: f"""CREATE TRIGGER s BEFORE INSERT ON kept BEGIN
        SELECT ({NUMBERS.format(1, 20_000)} SELECT count(*) FROM c); END""",
}
LEFTOVERS = {
    OfMariaDb: "SELECT table_name FROM information_schema.tables "
    "WHERE table_schema = DATABASE() AND table_name LIKE 'nomaflow%'",
    OfSqlite: "SELECT name FROM sqlite_master WHERE name LIKE 'nomaflow%'",
}
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


JOB = """
[[jobs]]
name = "{}"
[[jobs.steps]]
name = "copy"
type = "sql_copy"
source = {{ connector = "default", query = "{}" }}
target = {{ connector = "target", table = "{}" }}
"""
WORK = (("loads", SLOW, "kept"), ("makes", SLOW, "fresh"), ("applies", QUICK, "kept"))
JOBS = "".join(JOB.format(*one) for one in WORK)


@pytest.fixture(params=["mariadb", "sqlite"])
def target(request: pytest.FixtureRequest, home: House):
    if request.param == "sqlite":
        return OfSqlite(home), "sqlite:///people.db"
    made = OfMariaDb(request.getfixturevalue("mariadb_url"))
    return made, made.url


@pytest.mark.parametrize("job_name", size.pick(["applies"], ["loads", "makes", "applies"]))
async def test_killed_in_the_middle_of_a_copy(home: House, target, job_name, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "3"
    database, url = target
    for statement in KEPT:
        await database.ask(statement)
    if job_name == "applies":
        await database.ask(SLOWED[type(database)])
    (home.project / "connectors.toml").write_text(
        f"[connectors.target]\nkind = 'sql'\nurl = '{url}'\n"
    )
    before = sorted(await database.ask("SELECT id, v FROM kept"))
    await home.declare(JOBS)
    await home.start("worker")
    run_id = await home.trigger(job_name)
    async with asyncio.timeout(30):
        while not await in_the_middle(home, database, job_name):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)  # some rows have passed, none of them is committed
    victim = await home.owner(run_id)
    await victim.kill()
    assert sorted(await database.ask("SELECT id, v FROM kept")) == before
    home.begin("worker")
    run = await home.end(run_id, 90)

    assert (run["status"], run["interruptions"]) == ("succeeded", 1), run["reason"]
    table = "fresh" if job_name == "makes" else "kept"
    found = sorted(await database.ask(f"SELECT id, v FROM {table}"))
    assert found == [(n, "new") for n in range(1, ROWS + 1)]
    assert await database.ask(LEFTOVERS[type(database)]) == []
    figures(killed_while_it=job_name, rows=len(found))


async def in_the_middle(home: House, database: OfMariaDb | OfSqlite, job_name: str) -> bool:
    """Rows are read slowly by the source, or written slowly by the target."""
    if job_name == "applies":
        return await database.is_deleting()
    return bool(await home.db.fetchval(BUSY))
