"""The operating system user the embedded servers run as, and the folders it alone may read."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nomaflow.errors import Code, NomaflowError

# Not `nobody` first: python steps run as that user, and the processes of one user may kill each
# other and read each other's files.
CANDIDATES = ("daemon", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user without rights who stands in for root; the kernel numbers and the name."""

    name: str
    uid: int
    gid: int

    def can_enter(self, path: Path) -> bool:
        """Ask the kernel, as that user: modes, ACLs and mounts all have their say."""
        tested = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$0"', str(path)],
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return tested.returncode == 0


def choose() -> Account | None:
    """Name who runs the servers: None is ourselves; as root it is one of CANDIDATES."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise NomaflowError(
        Code.UNAVAILABLE,
        "PostgreSQL refuses to run as root and this system has neither of the users "
        f"{' and '.join(CANDIDATES)} to run it as. Start as an ordinary user, or give "
        "NOMAFLOW_DATABASE_URL and NOMAFLOW_REDIS_URL.",
    )


def make_private(folder: Path, account: Account | None, *, mode: int = 0o700) -> None:
    """Make `folder` for that account alone, or refuse one that somebody else made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    expected = account.uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {expected, os.geteuid()}:
        raise NomaflowError(
            Code.INVALID,
            f"{folder} belongs to {owner(folder)}, not to {name_of(expected)}. "
            "Start as that user, or choose another --home.",
        )
    if account and found.st_uid != account.uid:
        os.chown(folder, account.uid, account.gid)
    folder.chmod(mode)


def owner(path: Path) -> str:
    """Name the owner of a file, by number when the system does not know it."""
    return name_of(path.lstat().st_uid)


def name_of(uid: int) -> str:
    """Name a user, by number when the system does not know it."""
    try:
        return repr(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return f"user {uid}"
