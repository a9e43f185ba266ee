"""The same PostgreSQL to PostgreSQL copy by tools that pip can install; PEERS=1 runs it.

Each peer lives in an environment of its own and is left out, with a line, where pip or it fails.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from copying import Pair  # noqa: E402

from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402

ROWS = int(os.environ.get("ROWS", "300000"))
SECONDS = 600
TABLE = (
    "CREATE TABLE narrow (aid int PRIMARY KEY, bid int, abalance int, filler char(84));"
    f"INSERT INTO narrow SELECT g, g % 100, 0, '' FROM generate_series(1, {ROWS}) g"
)
PANDAS = """
import sys, pandas, sqlalchemy
source, target = (sqlalchemy.create_engine(url) for url in sys.argv[1:3])
for chunk in pandas.read_sql("SELECT * FROM narrow", source.connect(), chunksize=10000):
    chunk.to_sql("by_pandas", target, if_exists="append", index=False)
"""
DLT = """
import sys, dlt
from dlt.sources.sql_database import sql_table
table = sql_table(credentials=sys.argv[1], table="narrow", backend="pyarrow", chunk_size=50000)
target = dlt.destinations.postgres(credentials=sys.argv[2])
dlt.pipeline("bench", destination=target, dataset_name="by_dlt").run(table)
"""
# name, what pip installs, the program, how many times slower it is to be at least
PEERS = [
    ("pandas", ["pandas", "sqlalchemy", "psycopg2-binary"], PANDAS, 24.0),
    ("dlt", ["dlt[postgres,sql_database]", "psycopg2-binary", "pyarrow"], DLT, 13.0),
    ("sling", ["sling==1.4.10"], None, 6.0),
]


async def main() -> None:
    if os.environ.get("PEERS") != "1":
        print("peers are measured with PEERS=1 (pip installs each into an environment of its own)")
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
    started = time.monotonic()
    await pair.copy("narrow", "by_us")
    ours = time.monotonic() - started
    await pair.close()
    print(f"{'name':12} {'seconds':>8} {'ours':>8} {'slower':>7} {'target':>7}")
    for name, packages, script, wanted in PEERS:
        taken = await asyncio.to_thread(peer, home / name, packages, script, urls)
        if taken is None:
            print(f"{name:12} left out: pip or the tool itself failed here")
        else:
            print(f"{name:12} {taken:7.2f}s {ours:7.2f}s {taken / ours:6.1f}x {wanted:6.1f}x")


def peer(folder: Path, packages: list[str], script: str | None, urls: list[str]) -> float | None:
    """Seconds of one run, its interpreter's start left in; None when it cannot be had."""
    try:
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(folder / "bin/pip"), "install", "--quiet", *packages])
        if script is None:
            argv = [str(folder / "bin/sling"), "run", "--src-conn", urls[0], "--tgt-conn", urls[1]]
            argv += ["--src-stream", "public.narrow", "--tgt-object", "public.by_sling"]
        else:
            plain = [url.replace("postgresql://", "postgresql+psycopg2://") for url in urls]
            given = plain if "pandas" in script else [plain[0], urls[1]]
            argv = [str(folder / "bin/python"), "-c", script, *given]
        started = time.monotonic()
        run(argv)
        return time.monotonic() - started
    except (subprocess.SubprocessError, OSError):
        return None


def run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, timeout=SECONDS, capture_output=True)


if __name__ == "__main__":
    asyncio.run(main())
