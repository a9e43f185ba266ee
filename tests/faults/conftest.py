"""Servers of the faults' own, which they may break, and where each scenario's figures go."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import laws
import pytest
import size
from house import House, house, make_template
from servers import Postgres, Valkey

_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_FIGURES]:
        size_word = "long" if size.LONG else "short"
        terminalreporter.section(f"faults: {size_word}, FAULTS_SEED={size.SEED}")
        for line in config.stash[_FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keep one line of what the scenario measured, for the end of the report."""

    def say(**named: object) -> None:
        words = "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in named.items())
        name = request.node.name.removeprefix("test_").replace("_", " ")
        request.config.stash[_FIGURES].append(f"{name}: {words}")

    return say


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that the servers' and the steps' own users may enter."""
    made = Path(tempfile.mkdtemp(prefix="nomaflow-faults-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    if os.environ.get("FAULTS_KEEP"):
        print(f"kept: {made}")
    else:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(place: Path) -> Iterator[Postgres]:
    server = Postgres(place / "pg")
    asyncio.run(server.start())
    asyncio.run(make_template(server))
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def valkey(place: Path) -> Iterator[Valkey]:
    server = Valkey(place / "vk")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def home(
    request: pytest.FixtureRequest, place: Path, postgres: Postgres, valkey: Valkey
) -> AsyncIterator[House]:
    """An installation; afterwards the laws are looked at, and the programs' own words."""
    root = place / request.node.name[:60]
    root.mkdir()
    async with house(root, postgres, valkey, NOMAFLOW_DRAIN_SECONDS="10") as made:
        yield made
        assert await laws.broken(made.db, made.judge) == {}
        assert made.fell() == []
