"""The scheduler: what it costs at rest, how late a crowded second fires, and ten thousand at once.

A real scheduler program fires the crowded second; another connection watches when the rows appear.
The floor of the ten thousand is one bulk INSERT of the very rows, indexes and foreign keys kept.
"""

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from nomaflow.broker import connection
from nomaflow.broker.bell import Bell
from nomaflow.embedded.servers import EmbeddedServers
from nomaflow.job.spec import JobSpec
from nomaflow.store import database, migrate, roles, slots
from nomaflow.store.keyset import Window
from nomaflow.store.slots import SlotFilter
from nomaflow_scheduler import fire

CROWD = int(os.environ.get("CROWD", "1000"))
MANY = int(os.environ.get("MANY", "10000"))
SCHEDULES = (10, 1_000, 100_000)
LOOKS = 1_000
ROUNDS = 5
STEPS = [
    {"name": name, "type": "sql_query", "connector": "default", "query": "SELECT 1"}
    for name in ("one", "two", "three")
]
LATER = "now() + interval '1 day'"
TABLES = ("runs", "step_runs", "run_events", "slots")


async def declare(db: database.Database, jobs: int, clocks: int = 1) -> None:
    """So many jobs of three steps in force, each with so many clocks that fire tomorrow."""
    await db.execute("TRUNCATE jobs CASCADE")
    spec = JobSpec.parse({"name": "j", "schedule": "* * * * *", "overlap": "allow", "steps": STEPS})
    await db.execute(
        """INSERT INTO jobs (name, origin, app, definition, updated_by)
           SELECT 'j' || n, 'api', '_default', $1, 'bench' FROM generate_series(1, $2) n""",
        spec.canonical(),
        jobs,
    )
    await db.execute(
        f"""INSERT INTO schedules (job_id, name, cron, next_fire_at, look_at)
            SELECT j.id, 'c' || n, '* * * * *', {LATER}, {LATER}
            FROM jobs j, generate_series(1, $1) n""",
        clocks,
    )
    await db.execute("ANALYZE jobs, schedules, slots, runs")


async def beside(
    servers: EmbeddedServers, stack: AsyncExitStack, schedules: int
) -> database.Database:
    """A database of its own with so many schedules, so that looks can be taken in turns."""
    name = f"rest_{schedules}"
    admin = await database.connect(servers.database_url, max_size=1)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))
    await migrate.upgrade(url)
    db = await database.connect(url, max_size=12)
    stack.push_async_callback(db.close)
    await declare(db, max(schedules // 50, 1), min(schedules, 50))
    await db.execute(
        """INSERT INTO slots (schedule_id, due_at, outcome)
           SELECT s.id, now() - n * interval '1 hour', 'fired'
           FROM schedules s, generate_series(1, greatest(20000 / $1, 2)) n""",
        schedules,
    )
    await db.execute("VACUUM ANALYZE")
    return db


async def in_turns(
    asks: Sequence[Callable[[], Awaitable[object]]], times: int
) -> list[list[float]]:
    """Milliseconds of each ask, taken in turns: others use this machine as well."""
    taken: list[list[float]] = [[] for _ in asks]
    for _ in range(times):
        for ask, seconds in zip(asks, taken, strict=True):
            began = time.perf_counter()
            await ask()
            seconds.append((time.perf_counter() - began) * 1000)
    return taken


async def at_rest(servers: EmbeddedServers, bell: Bell) -> None:
    """One look when nothing is due, and one page of all that was due, by how many clocks exist."""
    async with AsyncExitStack() as stack:
        dbs = [await beside(servers, stack, count) for count in SCHEDULES]
        looks = await in_turns([partial(fire.tick, db, bell) for db in dbs], LOOKS)
        now = datetime.now(UTC)
        wanted = SlotFilter(since=now - timedelta(days=1), until=now, outcomes=None)
        pages = await in_turns([partial(slots.page, db, wanted, Window(50)) for db in dbs], LOOKS)
        few, *more = (statistics.median(one) for one in looks)
        for count, many in zip(SCHEDULES[1:], more, strict=True):
            row(f"a look at rest, {count} schedules, ms", many, few, 1.2)
        # Ten schedules fit into one block; from a thousand on each row lies on its own.
        _, some, most = (statistics.median(one) for one in pages)
        row(f"page of all due times, {SCHEDULES[-1]}, ms", most, some, 1.2)


async def crowded_second(db: database.Database) -> tuple[float, float]:
    """How late the half, and all but a hundredth, of the crowd is in history: milliseconds."""
    await db.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    now = await db.fetchval("SELECT clock_timestamp()")
    due = now.replace(microsecond=0) + timedelta(seconds=4)
    await db.execute("UPDATE schedules SET next_fire_at = $1, look_at = $1", due)
    await asyncio.sleep((due - now).total_seconds() - 0.2)
    seen: list[tuple[int, float]] = []
    async with asyncio.timeout(30), db.acquire() as watching:
        while not seen or seen[-1][0] < CROWD:
            count, late = await watching.fetchrow(
                """SELECT (SELECT count(*) FROM slots WHERE due_at = $1),
                     extract(epoch FROM clock_timestamp() - $1)::float8""",
                due,
            )
            seen.append((count, late * 1000))
            await asyncio.sleep(0.001)
    await db.execute(f"UPDATE schedules SET next_fire_at = {LATER}, look_at = {LATER}")
    return (
        next(late for count, late in seen if count >= CROWD * 0.5),
        next(late for count, late in seen if count >= CROWD * 0.99),
    )


async def all_at_once(db: database.Database, bell: Bell) -> tuple[float, float]:
    """Milliseconds until MANY clocks that are due are rows, and of one bulk INSERT of the rows."""
    await db.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    due = datetime.now(UTC).replace(microsecond=0)
    await db.execute("UPDATE schedules SET next_fire_at = $1, look_at = $1", due)
    await db.execute("CHECKPOINT")
    began = time.perf_counter()
    done = await fire.tick(db, bell, at=due)
    ours = (time.perf_counter() - began) * 1000
    assert done.fired == MANY, done
    async with db.acquire() as one:
        for table in TABLES:
            await one.execute(f"CREATE TEMP TABLE copy_{table} AS SELECT * FROM {table}")
        await one.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        await one.execute("CHECKPOINT")
        columns = {
            table: await one.fetchval(
                """SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                   WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped""",
                f"nomaflow.{table}",
            )
            for table in TABLES
        }
        bulk = ", ".join(
            f"i{n} AS (INSERT INTO {table} ({columns[table]}) "
            f"SELECT {columns[table]} FROM copy_{table})"
            for n, table in enumerate(TABLES)
        )
        began = time.perf_counter()
        await one.execute(f"WITH {bulk} SELECT 1")
        floor = (time.perf_counter() - began) * 1000
        for table in TABLES:
            await one.execute(f"DROP TABLE copy_{table}")
    return ours, floor


def row(name: str, ours: float, floor: float, target: float) -> None:
    ratio = ours / floor
    verdict = "ok" if ratio <= target else "MISSED"
    print(f"{name:36} {ours:10.2f} {floor:10.2f} {ratio:7.2f} {f'<= {target:g}':>8}  {verdict}")


@asynccontextmanager
async def scheduler(home: Path, servers: EmbeddedServers) -> AsyncIterator[None]:
    """A scheduler program of its own, over an empty project."""
    (home / "project").mkdir()
    environment = os.environ | {
        "NOMAFLOW_DATABASE_URL": servers.database_url,
        "NOMAFLOW_REDIS_URL": servers.redis_url,
        "NOMAFLOW_PROJECT": str(home / "project"),
    }
    with (home / "scheduler.log").open("wb") as log:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nomaflow_scheduler", env=environment, stdout=log, stderr=log
        )
    try:
        await asyncio.sleep(4)
        yield
    finally:
        program.terminate()
        await program.wait()


async def bench(home: Path, servers: EmbeddedServers) -> None:
    print(f"{'name':36} {'ours':>10} {'floor':>10} {'ratio':>7} {'target':>8}")
    async with AsyncExitStack() as stack:
        db = await database.connect(servers.database_url, max_size=12)
        stack.push_async_callback(db.close)
        client = connection.connect(servers.redis_url)
        stack.push_async_callback(client.aclose)
        bell = await stack.enter_async_context(Bell(client))
        await at_rest(servers, bell)
        await declare(db, MANY)
        await all_at_once(db, bell)  # every definition is read once
        pairs = [await all_at_once(db, bell) for _ in range(3)]
        ours, floor = min(pairs, key=lambda pair: pair[0] / pair[1])
        row(f"{MANY} due at once, ms", ours, floor, 3)
        await declare(db, CROWD)
        async with scheduler(home, servers):
            await crowded_second(db)
            late = [await crowded_second(db) for _ in range(ROUNDS)]
        row(
            f"fire delay of {CROWD} in a second, p50 ms",
            statistics.median(a for a, _ in late),
            1,
            25,
        )
        row(
            f"fire delay of {CROWD} in a second, p99 ms",
            statistics.median(b for _, b in late),
            1,
            150,
        )


async def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    home.chmod(0o755)
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        await migrate.upgrade(servers.database_url)
        await roles.ensure(servers.database_url)
        await bench(home, servers)
    except BaseException:
        for log in sorted(home.glob("*.log")):
            print(log.read_text()[-2000:], file=sys.stderr)
        raise
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
