"""What a function does with connectors of other databases than PostgreSQL."""

import pytest
from workshop import working, workshop

FUNCTION = """
async def work(ctx, *, name: str):
    db = ctx.get_connector(name)
    await db.execute("CREATE TABLE marks (n int PRIMARY KEY, word varchar(20))")
    async with db.transaction():
        for n in (1, 2, 3):
            done = await db.execute(
                "INSERT INTO marks (n, word) VALUES (:n, :word)", {"n": n, "word": f"w{n}"}
            )
            assert done.rowcount == 1, done.rowcount
    try:
        async with db.transaction():
            await db.execute("DELETE FROM marks")
            raise RuntimeError("undone")
    except RuntimeError:
        pass
    streamed = [row["word"] async for row in db.stream("SELECT word FROM marks ORDER BY n")]
    first = await db.first("SELECT n, word FROM marks WHERE n = :n", {"n": 2})
    rows = (await db.execute("SELECT n FROM marks ORDER BY n DESC")).all()
    return {
        "count": await db.scalar("SELECT count(*) FROM marks"),
        "streamed": streamed,
        "first": dict(first),
        "all": [row["n"] for row in rows],
        "none": await db.first("SELECT n FROM marks WHERE n = 99"),
    }
"""
JOB = """
[[jobs]]
name = "work"
params = { name = "there" }
[[jobs.steps]]
name = "work"
type = "python"
callable = "work:work"
"""


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        (made.root / "plugins" / "work.py").write_text(FUNCTION)
        yield made


async def answers(shop, url: str) -> None:
    (shop.root / "connectors.toml").write_text(f'[connectors.there]\nkind = "sql"\nurl = "{url}"\n')
    synced = await shop.declare(JOB)
    assert synced.problems == 0
    async with working(shop):
        run = await shop.run("work")
    assert run["status"] == "succeeded", run["reason"]
    (step,) = await shop.steps(run["id"])
    assert step["output"] == {
        "count": 3,
        "streamed": ["w1", "w2", "w3"],
        "first": {"n": 2, "word": "w2"},
        "all": [3, 2, 1],
        "none": None,
    }


async def test_sqlite(shop, tmp_path):
    await answers(shop, f"sqlite:///{tmp_path / 'marks.db'}")


async def test_mariadb(shop, mariadb_url):
    await answers(shop, mariadb_url)


async def test_postgresql(shop, pg_url):
    await answers(shop, pg_url)
