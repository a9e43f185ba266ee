"""Steps on every kind of database, through connectors of files and of the API, by a real worker."""

import asyncio
from urllib.parse import urlsplit

import pytest
from loopback import Loopback
from workshop import SECRET_KEY, working, workshop

from nomaflow import dispatch
from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError
from nomaflow.in_force import connector_changes
from nomaflow.in_force.connector_changes import Asked
from nomaflow.store import claims, logs
from nomaflow.vault import Vault

SLEEPING = "SELECT count(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(100)'"


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made, working(made):
        yield made


def asked(url, name="shop", **more):
    parts = urlsplit(url)
    settings = {
        "driver": "mysql",
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "database": parts.path[1:],
    }
    return Asked(name, "sql", settings, secrets={"password": parts.password}, **more)


JOB = """
    [[jobs]]
    name = "shop"
    [[jobs.steps]]
    name = "make"
    type = "sql_query"
    connector = "{0}"
    query = "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, x varchar(50))"
    [[jobs.steps]]
    name = "fill"
    type = "sql_query"
    connector = "{0}"
    query = "INSERT INTO t VALUES (1, :x)"
    params = {{ x = "it's" }}
    [[jobs.steps]]
    name = "read"
    type = "sql_query"
    connector = "{0}"
    query = "SELECT * FROM t"
    [[jobs.steps]]
    name = "call"
    type = "python"
    callable = "shopping:count"
    kwargs = {{ name = "{0}" }}
"""
PLUGIN = """
    async def count(ctx, name, **_):
        connector = ctx.get_connector(name)
        rows = [row async for row in connector.stream("SELECT x FROM t")]
        async with connector.transaction():
            changed = await connector.execute("UPDATE t SET x = x WHERE id = :id", {"id": "1"})
        return {"rows": rows, "changed": changed.rowcount}

    async def sleep(ctx, **_):
        await ctx.get_connector("shop").execute("SELECT SLEEP(100)")

    def count_apart(ctx, **_):
        return 1
"""


async def outputs(shop, run):
    found = await shop.db.fetch(
        "SELECT name, output FROM nomaflow.step_runs WHERE run_id = $1", run["id"]
    )
    return {row["name"]: row["output"] for row in found}


async def checked(shop, name):
    await shop.declare(JOB.format(name), **{"plugins__shopping.py": PLUGIN})
    run = await shop.end(await shop.trigger("shop"))
    assert run["status"] == "succeeded", dict(run)
    found = await outputs(shop, run)
    assert found["fill"]["rows_affected"] == 1
    assert found["read"]["rows"] == [{"id": 1, "x": "it's"}]
    assert found["call"] == {"rows": [{"x": "it's"}], "changed": 1}


async def test_steps_on_mariadb_by_a_file(shop, mariadb_url):
    (shop.root / "connectors.toml").write_text('[connectors.f]\nkind = "sql"\nurl = "${env:URL}"\n')
    (shop.root / ".env").write_text(f"URL={mariadb_url}\n")
    await checked(shop, "f")


async def test_steps_on_a_file_of_sqlite_beside_the_jobs(shop):
    (shop.root / "data").mkdir()
    (shop.root / "connectors.toml").write_text(
        '[connectors.stock]\nkind = "sql"\nurl = "sqlite:///data/stock.db"\n'
    )
    await checked(shop, "stock")
    assert (shop.root / "data" / "stock.db").stat().st_size > 0


async def test_a_worker_sees_what_is_made_changed_and_deleted_meanwhile(
    shop, mariadb_url, new_mariadb_url
):
    vault = Vault((SECRET_KEY,))
    await shop.declare(JOB.format("shop"), **{"plugins__shopping.py": PLUGIN})
    other = asked(mariadb_url, name="other")
    await connector_changes.create(shop.db, shop.project, vault, other, by="test")
    run = await shop.end(await shop.trigger("shop"))
    assert "there is no connector `shop`" in run["reason"] + str(run["error"])
    assert run["error"]["message"].endswith("known ones: default, other")
    await connector_changes.create(shop.db, shop.project, vault, asked(mariadb_url), by="test")
    await checked(shop, "shop")
    # Another database of the same server: the table is not there yet, and is made anew.
    elsewhere = asked(await new_mariadb_url())
    await connector_changes.update(shop.db, shop.project, vault, elsewhere, by="test")
    await checked(shop, "shop")
    await shop.declare(JOB.format("default"))
    await connector_changes.delete(shop.db, shop.project, "shop")
    await shop.declare(JOB.format("shop"), **{"plugins__shopping.py": PLUGIN})
    run = await shop.end(await shop.trigger("shop"))
    assert run["status"] == "failed"


async def test_a_run_taken_over_ends_what_its_dead_worker_left_on_the_server(
    database_url, redis_url, tmp_path, mariadb_url, mariadb_server
):
    """A step that another worker had begun: its statement still runs, its worker is no more."""
    async with workshop(database_url, redis_url, tmp_path / "project") as shop:
        vault = Vault((SECRET_KEY,))
        await connector_changes.create(shop.db, shop.project, vault, asked(mariadb_url), by="test")
        await shop.declare(JOB.format("shop"), **{"plugins__shopping.py": PLUGIN})
        run_id = await shop.trigger("shop")
        numbers = []
        session = sql.Session(f"nomaflow:{run_id}:make", numbers.append)
        orphan = sql.open("x", spec.parse({"kind": "sql", "url": mariadb_url}), session)
        working_on = asyncio.create_task(orphan.execute("SELECT SLEEP(100)"))
        async with asyncio.timeout(10):
            while (await mariadb_server.execute(SLEEPING))[0][0] != 1:
                await asyncio.sleep(0.02)
        (dead,) = await claims.claim(shop.db, "dead", limit=1, lease_seconds=0.01, tags=["default"])
        left = [{"connector": "shop", "pid": numbers[0], "application": session.application}]
        await logs.note(shop.db, run_id, dead.held.fence, 0, backends=left)
        async with working(shop, lease=4):
            with pytest.raises(StepError) as caught:
                await asyncio.wait_for(working_on, 30)
            assert caught.value.category == "connection"
            run = await shop.end(run_id, 40)
        assert run["interruptions"] == 1
        await orphan.close()


@pytest.mark.parametrize("kind", ["sql_query", "python"])
async def test_an_abort_ends_the_statement_on_the_server(shop, mariadb_url, mariadb_server, kind):
    vault = Vault((SECRET_KEY,))
    await connector_changes.create(shop.db, shop.project, vault, asked(mariadb_url), by="test")
    deed = {
        "sql_query": 'connector = "shop"\nquery = "SELECT SLEEP(100)"',
        "python": 'callable = "shopping:sleep"',
    }[kind]
    await shop.declare(
        f"[[jobs]]\nname = 'long'\n[[jobs.steps]]\nname = 'wait'\ntype = '{kind}'\n{deed}\n",
        **{"plugins__shopping.py": PLUGIN},
    )
    run_id = await shop.trigger("long")
    async with asyncio.timeout(20):
        while (await mariadb_server.execute(SLEEPING))[0][0] != 1:
            await asyncio.sleep(0.02)
    await dispatch.abort(shop.db, shop.bell, run_id, by="test")
    run = await shop.end(run_id)
    assert run["status"] == "aborted"
    async with asyncio.timeout(3):
        while (await mariadb_server.execute(SLEEPING))[0][0] != 0:
            await asyncio.sleep(0.02)


async def test_an_api_and_its_token_come_from_the_database(shop):
    """A step's request carries the secret; an echo of it is masked in history."""
    server = Loopback()
    await server.start()
    server.answer = lambda request: (
        200,
        {"Content-Type": "text/plain"},
        b"you said " + (request.header("Authorization") or "").encode(),
    )
    token = "a-token-that-nobody-else-knows"
    settings = {"url": server.url, "auth": {"type": "bearer", "token": "${secret:token}"}}
    vault = Vault((SECRET_KEY,))
    made = Asked("api", "http", settings, secrets={"token": token})
    await connector_changes.create(shop.db, shop.project, vault, made, by="test")
    plugin = """
        async def fetch(ctx, **_):
            answer = await ctx.get_connector("api").get("/b")
            return {"said": str(answer)}
    """
    await shop.declare(
        """
        [[jobs]]
        name = "calls"
        [[jobs.steps]]
        name = "a"
        type = "http"
        connector = "api"
        url = "/a"
        [[jobs.steps]]
        name = "b"
        type = "python"
        callable = "calling:fetch"
        """,
        **{"plugins__calling.py": plugin},
    )
    run = await shop.end(await shop.trigger("calls"))
    assert run["status"] == "succeeded", dict(run)
    await server.stop()
    assert [r.header("Authorization") for r in server.received] == [f"Bearer {token}"] * 2
    kept = await shop.db.fetch("SELECT output::text, input::text FROM nomaflow.step_runs")
    assert "you said Bearer ***" in kept[0]["output"]
    assert "you said Bearer ***" in kept[1]["output"]
    assert token not in str([dict(row) for row in kept])
