"""The way to Oracle and SQL Server, walked to the only database of SQLAlchemy's that runs here."""

import pytest
from sqlalchemy import make_url

from nomaflow.connectors import spec, sql
from nomaflow.connectors.alchemy import pool as alchemy_pool
from nomaflow.connectors.alchemy.connector import AlchemyPool
from nomaflow.errors import StepError


@pytest.fixture
async def connector(tmp_path):
    declared = spec.parse({"kind": "sql", "url": f"sqlite:///{tmp_path}/a.db", "pool_size": 1})
    pool = AlchemyPool("erp", declared, make_url(f"sqlite+aiosqlite:///{tmp_path}/a.db"), "none")
    opened = pool.connector(sql.Session())
    yield opened
    await opened.close()
    await pool.close()


async def test_statements_rows_and_transactions(connector):
    assert (await connector.execute("CREATE TABLE t (a int)")).rowcount == 0
    done = await connector.execute("INSERT INTO t VALUES (:a), (:b), (:a)", {"a": 1, "b": 2})
    assert (done.rowcount, done.command) == (3, "INSERT")
    rows = [row async for row in connector.stream("SELECT a, ':x' AS x FROM t", batch=2)]
    assert rows == [{"a": 1, "x": ":x"}, {"a": 2, "x": ":x"}, {"a": 1, "x": ":x"}]
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012  the block is the transaction
        async with connector.transaction():
            await connector.execute("DELETE FROM t")
            raise ValueError("stop")
    async with connector.transaction():
        await connector.execute("INSERT INTO t VALUES (9)")
    with pytest.raises(StepError, match="read-only"):
        async with connector.transaction(read_only=True):
            await connector.execute("DELETE FROM t")
    assert await connector.scalar("SELECT count(*) FROM t") == 4
    with pytest.raises(StepError, match="no such table: nowhere"):
        await connector.execute("SELECT * FROM nowhere")


def test_parts_and_urls_become_what_each_driver_wants():
    oracle = spec.parse({"kind": "sql", "url": "oracle://u:p%40ss@erp/ORCL"})
    assert (
        alchemy_pool.url_of("erp", oracle, "oracle").render_as_string(hide_password=False)
        == "oracle+oracledb_async://u:p%40ss@erp:1521?service_name=ORCL"
    )
    parts = {
        "kind": "sql",
        "driver": "mssql",
        "host": "h",
        "user": "u",
        "password": "p@",
        "database": "d",
    }
    url = alchemy_pool.url_of("erp", spec.parse(parts), "mssql")
    assert (url.drivername, url.host, url.port, url.password) == ("mssql+aioodbc", "h", 1433, "p@")
    assert url.query == {"driver": "ODBC Driver 18 for SQL Server"}


@pytest.mark.parametrize("dialect", ["oracle", "mssql"])
async def test_a_missing_driver_names_the_extra(dialect):
    declared = spec.parse({"kind": "sql", "url": f"{dialect}://u:sesame@h/d"})
    with pytest.raises(StepError, match=f"pip install 'nomaflow\\[{dialect}\\]'"):
        sql.pool("erp", declared)
