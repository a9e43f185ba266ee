"""Real PostgreSQL 18 and Valkey 9 from their wheels, for `nomaflow up` and for tests.

Both listen on Unix sockets only. PostgreSQL lets in its owner by the kernel's word (peer: the
user who started it) and every other role, the jobs' one first, by password; Valkey's socket
opens to its own user and to root. As root the servers run as another user (`accounts`),
because PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg

from nomaflow import private_files
from nomaflow.embedded import accounts, processes, wheels
from nomaflow.embedded.accounts import Account
from nomaflow.embedded.processes import Server
from nomaflow.embedded.wheels import Programs
from nomaflow.errors import Code, NomaflowError

OWNER = "nomaflow_owner"
DATABASE = "nomaflow"
MAJOR = "18"
SOCKET_PATH_BYTES = 103  # sun_path holds 108 bytes on Linux and 104 on macOS, ending NUL included

POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A client that vanished leaves no statement running behind it.
    "client_connection_check_interval": "1s",
    # A statement and its values may hold a secret: keep refused ones out of the log.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    # No replica can be attached, so a bulk load into a new table needs no second copy in the WAL.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
}
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedServers:
    """PostgreSQL and Valkey for one home folder, children of this process.

    `durable=False` gives up safety against a power cut, for tests. Start and stop in the main
    thread: on Linux the servers are told to end when the thread that started them does.
    Raises NomaflowError (UNAVAILABLE or INVALID) with what to do when they cannot be started.
    """

    def __init__(
        self, home: Path, *, durable: bool = True, postgres: bool = True, valkey: bool = True
    ) -> None:
        self.home = home.resolve()
        self._durable = durable
        self._wants_postgres, self._wants_valkey = postgres, valkey
        self._run = _socket_folder(self.home)
        self._servers: list[Server] = []
        self.database_url = self.redis_url = ""  # known once started
        self.copied_to: Path | None = None  # a copy outside the home, for root's stand-in

    async def start(self) -> None:
        """Start both; on return both answer and the database `nomaflow` exists."""
        account = accounts.choose()
        programs = wheels.find(account)
        self.copied_to = programs.copied_to
        self._make_folders(account)
        self._servers = []
        if self._wants_postgres:
            self._servers.append(await self._prepare_postgres(programs, account))
        if self._wants_valkey:
            self._servers.append(self._valkey(programs.valkey, account))
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start(account))
            if self._wants_postgres:
                await _create_database(self.database_url)
        except BaseException as error:
            await self.stop()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise

    @property
    def names(self) -> str:
        """Name the servers that run, for people."""
        return " and ".join(server.name for server in self._servers)

    async def stop(self) -> None:
        """End both, kindly first; returns when neither process is left."""
        async with asyncio.TaskGroup() as group:
            for server in reversed(self._servers):
                group.create_task(server.stop())
        if self._run.parent != self.home:
            with contextlib.suppress(OSError):  # absent, or not empty: a server would not end
                self._run.rmdir()

    async def keep_running(self, tell: Callable[[str], None]) -> None:
        """Start a server again when it dies, until cancelled; `tell` receives the sentences."""
        account = accounts.choose()
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.keep_running(account, tell))

    def _make_folders(self, account: Account | None) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        # Another user must be able to pass through, never to look around; parents stay untouched.
        self.home.chmod(0o711 if account else 0o700)
        if account and not account.can_enter(self.home):
            raise NomaflowError(
                Code.INVALID,
                f"The database server runs as the user {account.name!r}, who cannot enter "
                f"{self.home}: a folder above it is closed to others. Choose another --home, for "
                "example /var/lib/nomaflow.",
            )
        (self.home / "logs").mkdir(mode=0o700, exist_ok=True)
        # A python step's child, who is another user again, comes through to PostgreSQL.
        accounts.make_private(self._run, account, mode=0o711 if account else 0o700)

    async def _prepare_postgres(self, programs: Programs, account: Account | None) -> Server:
        data = self.home / "postgres"
        if not (data / "PG_VERSION").exists():
            await self._create_cluster(programs.initdb, account)
        _check_cluster(data, account)
        self._write_access_rules(data, account)
        host, password = quote(str(self._run)), self._password()
        self.database_url = f"postgresql://{OWNER}:{password}@/{DATABASE}?host={host}&port=5432"
        return self._postgres(programs.postgres, data)

    def _password(self) -> str:
        """Give the owner's password: peer asks for none, the jobs' role derives its own from it."""
        path = self.home / "postgres-password"
        if not path.exists():
            private_files.write(path, secrets.token_hex(32))
        return path.read_text().strip()

    async def _create_cluster(self, initdb: Path, account: Account | None) -> None:
        """Make the cluster under another name first: a killed first start leaves no half of one."""
        new = self.home / "postgres.new"
        if new.exists():
            shutil.rmtree(new)
        accounts.make_private(new, account)
        argv = [str(initdb), "-D", str(new), "-U", OWNER, "-A", "peer", "-E", "UTF8"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        argv += ["--no-instructions"] if self._durable else ["--no-instructions", "--no-sync"]
        log = self.home / "logs" / "initdb.log"
        with log.open("wb") as output:
            process = processes.spawn(argv, new, output, account)
        try:
            status = await processes.exit_code(process, processes.START_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if status != 0:
            raise NomaflowError(
                Code.UNAVAILABLE,
                f"initdb could not create the database under {self.home}: "
                f"{processes.last_line(log)}",
            )
        new.rename(self.home / "postgres")

    def _write_access_rules(self, data: Path, account: Account | None) -> None:
        """Let in whoever started the servers, by the kernel's word, and nobody else."""
        caller = pwd.getpwuid(os.geteuid()).pw_name
        rules = {
            "pg_hba.conf": f"local all {OWNER} peer map=owner\nlocal all all scram-sha-256\n",
            "pg_ident.conf": f'owner "{caller}" {OWNER}\n',
        }
        for name, text in rules.items():
            path = data / name
            path.write_text(text)
            path.chmod(0o600)
            if account:
                os.chown(path, account.uid, account.gid)

    def _postgres(self, program: Path, data: Path) -> Server:
        settings = {"unix_socket_directories": str(self._run), "port": "5432", **POSTGRES_SETTINGS}
        if not self._durable:
            settings |= THROWAWAY_SETTINGS
        argv = [str(program), "-D", str(data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        pid_file = data / "postmaster.pid"
        log = self.home / "logs" / "postgres.log"
        return Server(
            "PostgreSQL",
            argv,
            data,
            pid_file,
            log,
            signal.SIGINT,
            lambda: _postgres_ready(pid_file),
        )

    def _valkey(self, program: Path, account: Account | None) -> Server:
        data, socket = self.home / "valkey", self._run / "valkey.sock"
        accounts.make_private(data, account)
        self.redis_url = f"unix://{quote(str(socket))}?db=0"
        pid_file = data / "valkey.pid"
        argv = [str(program), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
        argv += ["--dir", str(data), "--pidfile", str(pid_file), "--set-proc-title", "no"]
        argv += ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        # Eviction would drop what the queue holds; a full server must refuse instead.
        argv += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        log = self.home / "logs" / "valkey.log"
        return Server(
            "Valkey", argv, data, pid_file, log, signal.SIGTERM, lambda: _valkey_ready(socket)
        )


def _postgres_ready(pid_file: Path) -> bool:
    """Read the postmaster's own word for it, on the eighth line of its file, as pg_ctl does."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"  # noqa: PLR2004


def _valkey_ready(path: Path) -> bool:
    """Ask for a PONG; while it still reads its file Valkey answers -LOADING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url, database="postgres")
    try:
        known = "SELECT true FROM pg_database WHERE datname = $1"
        if not await connection.fetchval(known, DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    finally:
        await connection.close()


def _check_cluster(data: Path, account: Account | None) -> None:
    accounts.make_private(data, account)
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR:
        raise NomaflowError(
            Code.INVALID,
            f"{data} was made by PostgreSQL {version}; this installation brings {MAJOR}. Dump it "
            "with the old version and restore it, or choose another --home.",
        )


def _socket_folder(home: Path) -> Path:
    """Keep the sockets in the home, or under /tmp when their path would be too long for one."""
    run = home / "run"
    if len(os.fsencode(run / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES:
        return run
    name = hashlib.sha256(f"{os.geteuid()}:{home}".encode()).hexdigest()[:16]
    return Path("/tmp") / f"nf-{name}"  # noqa: S108  made 0700, its owner checked
