"""The same PostgreSQL to PostgreSQL copy by tools that pip can install; PEERS=1 runs it.

Each peer lives in an environment of its own and is left out, with a line, where pip or it fails.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from copying import Pair  # noqa: E402

from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402

ONLY = os.environ.get("ONLY", "")
ROWS = int(os.environ.get("ROWS", "300000"))
SECONDS = 600
TABLE = (
    "CREATE TABLE narrow (aid int PRIMARY KEY, bid int, abalance int, filler char(84));"
    f"INSERT INTO narrow SELECT g, g % 100, 0, '' FROM generate_series(1, {ROWS}) g"
)
PANDAS = """
import sys, pandas, sqlalchemy
source, target = (
    sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
    for url in sys.argv[1:3]
)
for chunk in pandas.read_sql("SELECT * FROM narrow", source.connect(), chunksize=10000):
    chunk.to_sql("by_pandas", target, if_exists="append", index=False)
"""
DLT = """
import sys, dlt
from dlt.sources.sql_database import sql_table
source = sys.argv[1].replace("postgresql:", "postgresql+psycopg2:")
table = sql_table(credentials=source, table="narrow", backend="pyarrow", chunk_size=50000)
# It asks for a host beside the socket's folder, which libpq then prefers.
target = dlt.destinations.postgres(credentials=sys.argv[2].replace("@/", "@localhost/"))
dlt.pipeline("bench", destination=target, dataset_name="by_dlt").run(table)
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool, what is installed for it, its program or command, and how much slower it should be.

    Versions are the newest whose whole program comes from the index: later ones of sling and
    ingestr fetch it from elsewhere when they first run.
    """

    name: str
    packages: tuple[str, ...]
    argv: Callable[[Path, str, str], list[str]]
    slower: float


def program(text: str) -> Callable[[Path, str, str], list[str]]:
    return lambda bin_, source, target: [str(bin_ / "python"), "-c", text, source, target]


def ingestr(bin_: Path, source: str, target: str) -> list[str]:
    ends = ["--source-uri", source, "--dest-uri", target]
    tables = ["--source-table", "public.narrow", "--dest-table", "public.by_ingestr"]
    return [str(bin_ / "ingestr"), "ingest", *ends, *tables, "--yes", "--progress", "log"]


def sling(bin_: Path, source: str, target: str) -> list[str]:
    ends = ["--src-conn", source, "--tgt-conn", target]
    tables = ["--src-stream", "public.narrow", "--tgt-object", "public.by_sling"]
    return [str(bin_ / "sling"), "run", *ends, *tables]


PEERS = (
    Peer("ingestr", ("ingestr==0.15.9",), ingestr, 1.7),
    Peer("sling", ("sling==1.4.10", "pyarrow"), sling, 6.0),
    Peer(
        "dlt",
        ("dlt[postgres,sql_database]==1.31.0", "psycopg2-binary", "pyarrow"),
        program(DLT),
        13.0,
    ),
    Peer("pandas", ("pandas", "sqlalchemy", "psycopg2-binary"), program(PANDAS), 24.0),
)


async def main() -> None:
    if os.environ.get("PEERS") != "1":
        print("peers are measured with PEERS=1 (each is installed into an environment of its own)")
        return
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        await measure(servers, home)
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


async def measure(servers: EmbeddedServers, home: Path) -> None:
    urls = []
    for name in ("peer_a", "peer_b"):
        connection = await asyncpg.connect(servers.database_url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        urls.append(servers.database_url.replace("/nomaflow?", f"/{name}?"))
    pair = Pair(*urls)
    await pair.script("ops", TABLE)
    times = []
    for _ in range(4):  # the first one warms both up
        await pair.script("reports", "DROP TABLE IF EXISTS by_us")
        started = time.monotonic()
        await pair.copy("narrow", "by_us")
        times.append(time.monotonic() - started)
    ours = statistics.median(times[1:])
    await pair.close()
    print(f"{'name':12} {'seconds':>8} {'ours':>8} {'slower':>7} {'target':>7}")
    for peer in (peer for peer in PEERS if ONLY in peer.name):
        taken = await asyncio.to_thread(seconds, peer, home / peer.name, urls)
        if isinstance(taken, str):
            print(f"{peer.name:12} left out: {taken}", flush=True)
            continue
        rows = await count(urls[1], f"by_{peer.name}")
        slower = f"{taken / ours:6.1f}x {peer.slower:6.1f}x"
        odd = "" if rows == ROWS else f"  but wrote {rows} of {ROWS} rows"
        print(f"{peer.name:12} {taken:7.2f}s {ours:7.2f}s {slower}{odd}", flush=True)


async def count(url: str, table: str) -> int:
    """Rows of a peer's table, in whichever schema it made it."""
    connection = await asyncpg.connect(url)
    name = await connection.fetchval(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
        "WHERE table_name IN ($1, 'narrow') AND table_schema NOT LIKE '%staging%' "
        "ORDER BY table_name = $1 DESC LIMIT 1",
        table,
    )
    rows = await connection.fetchval(f"SELECT count(*) FROM {name}")
    await connection.close()
    return int(rows)


def seconds(peer: Peer, folder: Path, urls: list[str]) -> float | str:
    """How long one run takes, its start left in; a word for why it cannot be had."""
    plain = [
        url.replace("?", "?sslmode=disable&", 1) if peer.argv is sling else url for url in urls
    ]
    try:
        install(folder, peer.packages)
        started = time.monotonic()
        run(peer.argv(folder / "bin", *plain), folder)
        return time.monotonic() - started
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        return said[-int(os.environ.get("WORDS", "200")) :] or str(error)


def install(folder: Path, packages: Sequence[str]) -> None:
    """An environment of its own, by uv where it is, else by pip."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(folder / "bin/pip"), "install", "--quiet", *packages])
        return
    run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    python = str(folder / "bin/python")
    run([uv, "pip", "install", "--quiet", "--system-certs", "--python", python, *packages])


def run(argv: list[str], home: Path | None = None) -> None:
    environ = None if home is None else {**os.environ, "HOME": str(home)}
    subprocess.run(argv, check=True, timeout=SECONDS, capture_output=True, env=environ)


if __name__ == "__main__":
    asyncio.run(main())
