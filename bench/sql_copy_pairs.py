"""sql_copy between PostgreSQL, MariaDB and SQLite, beside the pipes of their own command lines."""

import asyncio
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

import mariadb  # noqa: E402  the tests' private server
from copying import Pair  # noqa: E402

from nomaflow.embedded import wheels  # noqa: E402
from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402
from nomaflow_worker.sandbox.pool import Sandbox  # noqa: E402
from nomaflow_worker.sandbox.request import ChildRequest  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ROWS = int(os.environ.get("ROWS", "500000"))
ONLY = os.environ.get("ONLY", "")
PSQL = wheels.find(None).postgres.with_name("psql")
SHAPE = "(aid int NOT NULL, bid int, abalance int, filler varchar(84))"
FILL = f"SELECT g, g % 100, 0, 'filler of row ' || g FROM generate_series(1, {ROWS}) g"
# Without the sqlite3 program its pipe is the same loop in Python's own C module.
READ_SQLITE = """
import sqlite3, sys
cursor = sqlite3.connect(sys.argv[1]).execute("SELECT * FROM narrow")
while rows := cursor.fetchmany(5000):
    sys.stdout.write("".join(f"{a}\\t{b}\\t{c}\\t{d}\\n" for a, b, c, d in rows))
"""
WRITE_SQLITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
rows = (line[:-1].split("\\t") for line in sys.stdin)
connection.executemany("INSERT INTO narrow VALUES (?, ?, ?, ?)", rows)
connection.commit()
"""


class Ends:
    """One database of each kind, all with the same table."""

    def __init__(self, home: Path, postgres: str, maria: mariadb.MariaDb | None) -> None:
        self.postgres, self.maria = postgres, maria
        self.file = home / "narrow.db"
        self.urls = {"pg": postgres, "sqlite": f"sqlite:///{self.file}"}
        if maria is not None:
            self.urls["mariadb"] = maria.url("bench")

    def mariadb_client(self) -> str:
        maria = self.maria
        assert maria is not None
        where = f"-h127.0.0.1 -P{maria.port} -u{mariadb.USER} -p{maria.password}"
        return f"mariadb {where} --local-infile=1 bench"

    async def prepare(self) -> None:
        connection = await asyncpg.connect(self.postgres)
        await connection.execute(f"CREATE TABLE narrow {SHAPE}; INSERT INTO narrow {FILL}; ANALYZE")
        await connection.close()
        file = sqlite3.connect(self.file)
        file.execute(f"CREATE TABLE narrow {SHAPE}")
        rows = ((g, g % 100, 0, f"filler of row {g}") for g in range(1, ROWS + 1))
        file.executemany("INSERT INTO narrow VALUES (?, ?, ?, ?)", rows)
        file.commit()
        file.close()
        if self.maria is not None:
            await self.maria.execute("CREATE DATABASE bench")
            await self.maria.execute(f"CREATE TABLE bench.narrow {SHAPE}")
            await shell(self.pg_to_mariadb("narrow"))

    def pg_to_mariadb(self, table: str) -> str:
        reading = f"{PSQL} -qXc 'COPY narrow TO STDOUT' '{self.postgres}'"
        load = f"LOAD DATA LOCAL INFILE '/dev/stdin' INTO TABLE {table} CHARACTER SET utf8mb4"
        return f'{reading} | {self.mariadb_client()} -e "{load}"'

    def mariadb_to_pg(self) -> str:
        reading = f"{self.mariadb_client()} --quick -BNe 'SELECT * FROM narrow'"
        return f"{reading} | {PSQL} -qXc 'COPY copied FROM STDIN' '{self.postgres}'"

    def sqlite_to_pg(self) -> str:
        own = shutil.which("sqlite3")
        read = (
            f"{own} -tabs {self.file} 'SELECT * FROM narrow'"
            if own
            else (f"{sys.executable} -c '{READ_SQLITE}' {self.file}")
        )
        return f"{read} | {PSQL} -qXc 'COPY copied FROM STDIN' '{self.postgres}'"

    def pg_to_sqlite(self) -> str:
        script = WRITE_SQLITE.replace("INTO narrow", "INTO copied")
        write = f"{sys.executable} -c '{script}' {self.file}"
        return f"{PSQL} -qXc 'COPY narrow TO STDOUT' '{self.postgres}' | {write}"

    async def clear(self, kind: str) -> None:
        """An empty table `copied` there."""
        match kind:
            case "pg":
                connection = await asyncpg.connect(self.postgres)
                await connection.execute(
                    f"DROP TABLE IF EXISTS copied; CREATE TABLE copied {SHAPE}; CHECKPOINT"
                )
                await connection.close()
            case "mariadb":
                assert self.maria is not None
                await self.maria.execute("DROP TABLE IF EXISTS bench.copied")
                await self.maria.execute(f"CREATE TABLE bench.copied {SHAPE}")
            case _:
                file = sqlite3.connect(self.file)
                file.execute("DROP TABLE IF EXISTS copied")
                file.execute(f"CREATE TABLE copied {SHAPE}")
                file.close()


async def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    there = Path(tempfile.mkdtemp(prefix="nomaflow-mariadb-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    maria = None
    try:
        if shutil.which("mariadb") and shutil.which("mariadb-install-db"):
            maria = await asyncio.to_thread(mariadb._started, there)  # noqa: SLF001
        else:
            print("MariaDB is not installed: its rows are left out (apt install mariadb-server)")
        connection = await asyncpg.connect(servers.database_url)
        await connection.execute("CREATE DATABASE bench")
        await connection.close()
        ends = Ends(home, servers.database_url.replace("/nomaflow?", "/bench?"), maria)
        await ends.prepare()
        await bench(ends, home)
    finally:
        if maria is not None:
            maria.process.kill()
            maria.process.wait()
        await servers.stop()
        for folder in (home, there):
            shutil.rmtree(folder, ignore_errors=True)


async def bench(ends: Ends, home: Path) -> None:
    print(f"{'name':32} {'ours':>8} {'floor':>8} {'ratio':>6} {'target':>6}")
    pipes: list[tuple[str, str, float, Callable[[], str]]] = [
        ("sqlite", "pg", 1 / 0.45, ends.sqlite_to_pg),
        ("pg", "sqlite", 1 / 0.45, ends.pg_to_sqlite),
    ]
    if ends.maria is not None:
        pipes += [
            ("mariadb", "pg", 1 / 0.7, ends.mariadb_to_pg),
            ("pg", "mariadb", 1 / 0.9, lambda: ends.pg_to_mariadb("copied")),
        ]
    for source, target, wanted, pipe in pipes:
        pair = Pair(ends.urls[source], ends.urls[target])

        async def ours(pair: Pair = pair) -> None:
            await pair.copy("narrow", "copied", mode="append")

        async def floor(pipe: Callable[[], str] = pipe) -> None:
            await shell(pipe())

        await compare(f"{source} to {target}, narrow", wanted, ours, floor, ends, target)
        await pair.close()
    await transform(ends, home)


async def transform(ends: Ends, home: Path) -> None:
    """Rows that a function touches, beside a cursor and copy_records in one process."""
    plugins = home / "plugins"
    plugins.mkdir()
    (plugins / "clean.py").write_text("def same(row):\n    return row\n")
    for folder in (home, plugins):
        folder.chmod(0o755)
    sandbox = Sandbox(plugins)
    await sandbox.start()
    pair = Pair(ends.postgres, ends.postgres.replace("/bench?", "/nomaflow?"))
    await pair.script("reports", f"CREATE SCHEMA b; CREATE TABLE b.copied {SHAPE}")

    async def python(call: object) -> object:
        request = ChildRequest(call.callable, "0", "bench", "copy", rows=call.rows)
        return await sandbox.call(request, _Deaf(), timeout_seconds=600)

    async def ours() -> None:
        target = {"schema": "b", "table": "copied"}
        await pair.copy("narrow", target, mode="append", transform="clean:same", python=python)

    async def floor() -> None:
        source = await asyncpg.connect(ends.postgres)
        target = await asyncpg.connect(pair.urls["reports"])
        async with source.transaction():
            cursor = await source.cursor("SELECT * FROM narrow")
            while records := await cursor.fetch(10_000):
                await target.copy_records_to_table("copied", schema_name="b", records=records)
        await source.close()
        await target.close()

    await compare("a function per row, narrow", 1 / 0.9, ours, floor, ends, "pg")
    await pair.close()
    await sandbox.stop()


class _Deaf:
    def log(self, *_: object) -> None: ...
    def progress(self, *_: object) -> None: ...
    def backend_pid(self, *_: object) -> None: ...


async def compare(
    name: str,
    wanted: float,
    ours: Callable[[], Awaitable[None]],
    floor: Callable[[], Awaitable[None]],
    ends: Ends,
    target: str,
) -> None:
    if ONLY not in name:
        return
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(ROUNDS):
        for label, deed in (("floor", floor), ("ours", ours)):
            await ends.clear(target)
            started = time.monotonic()
            await deed()
            times[label].append(time.monotonic() - started)
    mine, base = (statistics.median(times[label]) for label in ("ours", "floor"))
    print(f"{name:32} {mine:7.2f}s {base:7.2f}s {mine / base:6.2f} {wanted:6.2f}", flush=True)


async def shell(command: str) -> None:
    done = await asyncio.to_thread(subprocess.run, command, shell=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {command}")


if __name__ == "__main__":
    asyncio.run(main())
