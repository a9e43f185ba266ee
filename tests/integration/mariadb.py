"""A private MariaDB of this test session: started once, a fresh database for each test."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomaflow.embedded import accounts, processes

USER = "nomaflow"
START_SECONDS = 60.0


@dataclass
class MariaDb:
    """A running server, and who may do everything there."""

    port: int
    password: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def ca_file(self) -> str:
        """Who signed its certificate, which names 127.0.0.1 and nothing else."""
        return str(self.log.parent / "ca.pem")

    def url(self, database: str = "") -> str:
        return f"mysql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    async def execute(self, sql: str) -> tuple:
        """Run one statement as that user; the rows."""
        import asyncmy

        connection = await asyncmy.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, autocommit=True
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
                return await cursor.fetchall() if cursor.description else ()
        finally:
            await connection.ensure_closed()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDb]:
    """MariaDB of this test session on a loopback port; it ends with it, however it ends."""
    missing = [name for name in ("mariadbd", "mariadb-install-db") if _program(name) is None]
    if missing:
        said = f"{' and '.join(missing)} not installed; Debian: apt install mariadb-server"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    # Not pytest's tmp_path: as root the server is another user, who cannot enter it.
    home = Path(tempfile.mkdtemp(prefix="nomaflow-mariadb-", dir="/tmp"))
    try:
        server = _started(home)
        yield server
        server.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(20)
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _started(home: Path) -> MariaDb:
    account = accounts.choose()
    accounts.make_private(home, account)
    password = secrets.token_hex(12)
    log = home / "server.log"
    with log.open("ab") as output:
        install = [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={home}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        made = processes.spawn(install, home, output, account, farewell=signal.SIGTERM).wait(
            START_SECONDS
        )
    if made != 0:
        pytest.fail(f"mariadb-install-db failed: {log.read_text(errors='replace')[-2000:]}")
    orders = home / "init.sql"
    orders.write_text(
        f"ALTER USER root@localhost IDENTIFIED BY '{password}';\n"
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
    )
    orders.chmod(0o644)
    from directory import certificates  # pytest loads it as a plugin of its own

    certificates(home)
    for file in ("ca.pem", "server.pem", "server.key"):
        (home / file).chmod(0o644)
    port = _free_port()
    argv = [
        _program("mariadbd"),
        "--no-defaults",
        f"--datadir={home}/data",
        f"--socket={home}/s",
        f"--pid-file={home}/pid",
        f"--tmpdir={home}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--init-file={orders}",
        "--skip-log-bin",
        "--local-infile=ON",
        f"--ssl-ca={home}/ca.pem",
        f"--ssl-cert={home}/server.pem",
        f"--ssl-key={home}/server.key",
        "--character-set-server=utf8mb4",
        # Tests need no durability, and little memory.
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=32M",
        "--skip-innodb-doublewrite",
        "--innodb-flush-method=nosync",
    ]
    with log.open("ab") as output:
        # MariaDB ignores SIGINT.
        process = processes.spawn(argv, home, output, account, farewell=signal.SIGTERM)
        server = MariaDb(port, password, process, log)
    asyncio.run(_answers(server))
    return server


async def _answers(server: MariaDb) -> None:
    said = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while server.process.poll() is None:
                try:
                    await server.execute("SELECT 1")
                except Exception as error:  # noqa: BLE001  it is not there yet, whatever it says
                    said = str(error)
                    await asyncio.sleep(0.02)
                else:
                    return
    server.process.kill()
    pytest.fail(f"mariadbd did not start: {processes.last_line(server.log)}; {said}")


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


NewMariaDb = Callable[[], Awaitable[str]]


@pytest.fixture
async def new_mariadb_url(mariadb_server: MariaDb) -> AsyncIterator[NewMariaDb]:
    """Make as many empty databases as the test asks for; each call gives the URL of one."""
    made: list[str] = []

    async def make() -> str:
        name = f"user_{secrets.token_hex(6)}"
        await mariadb_server.execute(f"CREATE DATABASE {name}")
        made.append(name)
        return mariadb_server.url(name)

    yield make
    for name in made:
        await mariadb_server.execute(f"DROP DATABASE {name}")


@pytest.fixture
async def mariadb_url(new_mariadb_url: NewMariaDb) -> str:
    """One empty MariaDB database, with a user and a password."""
    return await new_mariadb_url()
