"""sql_copy between two PostgreSQL databases, beside `psql COPY | psql COPY` in the same run."""

import asyncio
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from copying import Pair  # noqa: E402  the tests' second implementation of a step's context

from nomaflow.embedded import wheels  # noqa: E402
from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "5"))
ROWS = int(os.environ.get("ROWS", "1000000"))
ONLY = os.environ.get("ONLY", "")
NARROW = f"""
    CREATE TABLE narrow (aid int NOT NULL, bid int, abalance int, filler char(84));
    INSERT INTO narrow SELECT g, g % 100, 0, '' FROM generate_series(1, {ROWS * 2}) g
"""
WIDE = f"""
    CREATE TABLE wide (
        id bigint PRIMARY KEY, customer int, amount numeric(12, 2), tax numeric, at timestamptz,
        local timestamp, day date, key uuid, doc jsonb, tags text[], numbers int[], paid bool,
        score float8, status text, note text, code varchar(20), region int, weight real
    );
    INSERT INTO wide SELECT g, g % 5000, g * 1.25, g / 7.0, now() + g * interval '1 s', now(),
        current_date, gen_random_uuid(), jsonb_build_object('a', g, 'b', md5(g::text)),
        ARRAY['x', md5(g::text)], ARRAY[1, NULL, g], g % 2 = 0, g / 3.0, 'open',
        repeat('n', g % 50), 'c' || g, g % 20, 1.5
    FROM generate_series(1, {ROWS // 2}) g
"""
PSQL = wheels.find(None).postgres.with_name("psql")
INDEXES = ("at", "customer", "status", "region")


async def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        urls = [await database(servers.database_url, name) for name in ("bench_a", "bench_b")]
        pair = Pair(*urls)
        for script in (NARROW, WIDE):
            await pair.script("ops", script)
        await pair.script("ops", "ANALYZE")
        await bench(pair, *urls)
        await pair.close()
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


async def database(url: str, name: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return url.replace("/nomaflow?", f"/{name}?")


async def bench(pair: Pair, source: str, target: str) -> None:
    print(f"{'name':28} {'ours':>8} {'floor':>8} {'ratio':>6} {'target':>6}")
    for table in ("narrow", "wide"):
        await compare(
            f"append {table}, same types",
            1.05,
            lambda table=table: pair.copy(table, table, mode="append"),
            lambda table=table: pipe(source, target, table),
            lambda table=table: bare(pair, table),
        )
    await compare(
        "overwrite wide, 4 indexes",
        0.95,
        lambda: pair.copy("wide", "wide"),
        lambda: pipe_and_index(source, target),
        lambda: indexed(pair),
    )
    await pair.script(
        "ops",
        "CREATE VIEW loose AS SELECT aid::bigint AS aid, bid::bigint AS bid, "
        "abalance::numeric(12,2) AS abalance, filler::text AS filler FROM narrow",
    )
    await compare(
        "append narrow, types differ",
        1.5,
        lambda: pair.copy("narrow", "loose", mode="append"),
        lambda: pipe(source, target, "narrow"),
        lambda: loose(pair),
    )
    await compare(
        "upsert half new, half changed",
        1.05,
        lambda: pair.copy("wide", "wide", mode="upsert"),
        lambda: upsert_by_hand(source, target),
        lambda: half(pair),
    )
    await compare(
        "append narrow, 2 streams",
        0.9,
        lambda: pair.copy("narrow", "narrow", mode="append", streams=2),
        lambda: pipe(source, target, "narrow"),
        lambda: bare(pair, "narrow"),
    )
    await pair.script("ops", "UPDATE wide SET note = 'changed' WHERE id % 100 = 0")
    await compare(
        "overwrite wide, 1 % changed",
        0.5,
        lambda: pair.copy("wide", "wide"),
        lambda: pipe_and_index(source, target),
        lambda: furnished(pair),
    )
    await compare(
        "in place, 2 streams to 1 stream",
        1.0,
        lambda: pair.copy("wide", "wide", streams=2),
        lambda: pair.copy("wide", "wide", streams=1),
        lambda: looked_at(pair),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'peak RSS of this process, MB':28} {peak:8.0f} {'':8} {'':6} {64:6}")


async def compare(
    name: str,
    wanted: float,
    ours: Callable[[], Awaitable[object]],
    floor: Callable[[], Awaitable[object]],
    prepare: Callable[[], Awaitable[None]],
) -> None:
    """Both in turn, each on the same bare target; medians."""
    if ONLY not in name:
        return
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(ROUNDS):
        for label, deed in (("floor", floor), ("ours", ours)):
            await prepare()
            started = time.monotonic()
            await deed()
            times[label].append(time.monotonic() - started)
    mine, base = (statistics.median(times[label]) for label in ("ours", "floor"))
    print(f"{name:28} {mine:7.2f}s {base:7.2f}s {mine / base:6.2f} {wanted:6}", flush=True)


async def bare(pair: Pair, table: str) -> None:
    connection = await pair.reports.raw()
    shape = await shape_of(pair, table)
    await connection.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({shape})")
    await connection.execute("CHECKPOINT")


async def shape_of(pair: Pair, table: str) -> str:
    return str(
        await pair.ops.scalar(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' "
            f"ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass "
            "AND attnum > 0"
        )
    )


async def indexed(pair: Pair) -> None:
    """A target that holds other rows already, with a key and indexes."""
    await bare(pair, "wide")
    await pair.script(
        "reports",
        "ALTER TABLE wide ADD PRIMARY KEY (id);"
        + ";".join(f"CREATE INDEX wide_{name} ON wide ({name})" for name in INDEXES)
        + ";INSERT INTO wide (id) SELECT generate_series(1, 1000)",
    )


async def loose(pair: Pair) -> None:
    await pair.script(
        "reports",
        "DROP TABLE IF EXISTS loose; CREATE TABLE loose (aid bigint, bid bigint, "
        "abalance numeric(12,2), filler text); CHECKPOINT",
    )


async def furnished(pair: Pair) -> None:
    """A target that holds nearly all rows as they are."""
    await bare(pair, "wide")
    await pair.copy("wide", "wide", mode="append")
    await pair.script(
        "reports",
        "UPDATE wide SET note = 'old' WHERE id % 100 = 0; ALTER TABLE wide ADD PRIMARY KEY (id);"
        + ";".join(f"CREATE INDEX wide_{name} ON wide ({name})" for name in INDEXES)
        + ";ANALYZE wide",
    )


async def looked_at(pair: Pair) -> None:
    """A target that must be changed in place, and where every row comes."""
    await pair.script("reports", "DROP VIEW IF EXISTS watching")
    await indexed(pair)
    await pair.script("reports", "CREATE VIEW watching AS SELECT id FROM wide")


async def half(pair: Pair) -> None:
    await bare(pair, "wide")
    await pair.copy({"table": "wide", "where": "id % 2 = 0"}, "wide", mode="append")
    for statement in ("ALTER TABLE wide ADD PRIMARY KEY (id)", "UPDATE wide SET note = 'old'"):
        await pair.script("reports", statement)
    await pair.script("reports", "VACUUM wide")


async def pipe(source: str, target: str, table: str, into: str | None = None) -> None:
    """`psql COPY binary | psql COPY binary`, the floor."""
    reading = f"COPY {table} TO STDOUT (FORMAT binary)"
    writing = f"COPY {into or table} FROM STDIN (FORMAT binary)"
    await shell(f"{PSQL} -qXc '{reading}' '{source}' | {PSQL} -qXc '{writing}' '{target}'")


async def pipe_and_index(source: str, target: str) -> None:
    """The same by hand: load beside, build the indexes one after the other, swap."""
    indexes = "; ".join(f"CREATE INDEX next_{name} ON next ({name})" for name in INDEXES)
    await shell(f"{PSQL} -qXc 'CREATE TABLE next (LIKE wide)' '{target}'")
    await pipe(source, target, "wide", "next")
    finish = (
        f"ALTER TABLE next ADD PRIMARY KEY (id); {indexes}; ANALYZE next; "
        "BEGIN; DROP TABLE wide; ALTER TABLE next RENAME TO wide; COMMIT"
    )
    await shell(f"{PSQL} -qXc '{finish}' '{target}'")


async def upsert_by_hand(source: str, target: str) -> None:
    connection = await asyncpg.connect(target)
    names = [
        row["attname"]
        for row in await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attnum > 0 "
            "AND attname <> 'id'"
        )
    ]
    await connection.close()
    assigned = ", ".join(f"{name} = excluded.{name}" for name in names)
    script = (
        "BEGIN; CREATE TEMP TABLE s (LIKE wide) ON COMMIT DROP; "
        "COPY s FROM PSTDIN (FORMAT binary); INSERT INTO wide SELECT * FROM s ORDER BY id "
        f"ON CONFLICT (id) DO UPDATE SET {assigned}; COMMIT"
    ).replace("COPY s FROM PSTDIN (FORMAT binary)", "\\copy s FROM pstdin (FORMAT binary)")
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script.replace("; ", ";\n") + ";\n")
        file.flush()
        reading = "COPY wide TO STDOUT (FORMAT binary)"
        await shell(f"{PSQL} -qXc '{reading}' '{source}' | {PSQL} -qXf {file.name} '{target}'")


async def shell(command: str) -> None:
    process = await asyncio.create_subprocess_shell(command)
    if await process.wait():
        raise SystemExit(f"failed: {command}")


if __name__ == "__main__":
    asyncio.run(main())
