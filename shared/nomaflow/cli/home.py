"""The home folder of `nomaflow up`: its lock, its token and key, and what it tells the others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nomaflow import private_files
from nomaflow.embedded import accounts
from nomaflow.errors import Code, NomaflowError

ROOT_HOME = Path("/var/lib/nomaflow")


def choose(given: Path | None, project: Path) -> Path:
    """Pick the home: the one given, else `.nomaflow` in the project.

    As root the database server runs as another user; where that one cannot enter the project,
    the home is /var/lib/nomaflow.
    """
    if given is not None:
        return given.resolve()
    account = accounts.choose()
    if account is not None and not account.can_enter(project):
        return ROOT_HOME
    return project.resolve() / ".nomaflow"


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home alone; NomaflowError (BUSY) names the process that has it."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise NomaflowError(
            Code.FORBIDDEN,
            f"{home} belongs to {accounts.owner(home)}. Start as that user, or choose "
            "another --home.",
        ) from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NomaflowError(
                Code.BUSY,
                f"Another `nomaflow up` (process {file.read().strip() or 'unknown'}) runs on "
                f"{home}. Stop it first, or choose another --home.",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_running(home: Path) -> bool:
    """Tell whether some `nomaflow up` holds this home now."""
    try:
        with (home / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def keep_secret(home: Path, name: str, make: str) -> tuple[str, bool]:
    """Read a secret kept in the home, or keep `make` there; tells whether it is new."""
    path = home / name
    if path.exists() and (kept := path.read_text().strip()):
        return kept, False
    private_files.write(path, f"{make}\n")
    return make, True


def new_admin_token() -> str:
    """Make a bearer token of the form every token of ours has."""
    return f"nf_admin_{secrets.token_urlsafe(32)}"


@dataclass(frozen=True, slots=True)
class State:
    """What a running `up` tells the command line and programs that join it."""

    url: str
    admin_token: str
    secret_key: str
    database_url: str
    redis_url: str
    project: str
    pid: int

    @classmethod
    def read(cls, home: Path) -> State:
        """Read the state; NomaflowError (UNAVAILABLE) when no `up` runs on this home."""
        absent = NomaflowError(
            Code.UNAVAILABLE,
            f"No `nomaflow up` is running on {home}. Start one with `nomaflow up --home {home}`.",
        )
        if not is_running(home):
            raise absent
        try:
            kept = json.loads((home / "state.json").read_text())
            return cls(**{field.name: kept[field.name] for field in fields(cls)})
        except PermissionError:
            raise NomaflowError(
                Code.FORBIDDEN,
                f"{home} belongs to {accounts.owner(home)}: run this as that user.",
            ) from None
        except (FileNotFoundError, KeyError, ValueError):  # it is still starting, or just ended
            raise absent from None

    def write(self, home: Path) -> None:
        private_files.write(home / "state.json", json.dumps(asdict(self), indent=1) + "\n")

    def environment(self) -> dict[str, str]:
        """Give the settings by which another program joins this installation."""
        return {
            "NOMAFLOW_DATABASE_URL": self.database_url,
            "NOMAFLOW_REDIS_URL": self.redis_url,
            "NOMAFLOW_ADMIN_TOKEN": self.admin_token,
            "NOMAFLOW_SECRET_KEY": self.secret_key,
            "NOMAFLOW_PROJECT": self.project,
        }


def forget(home: Path) -> None:
    """Take the state away: nothing runs here any more."""
    (home / "state.json").unlink(missing_ok=True)
