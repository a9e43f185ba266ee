"""Installations of the three real programs, on folders of their own or shared."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installation import Installation
from recipes import EXAMPLES, load

WORK = Path(__file__).parent / "projects" / "work"


Start = Callable[..., Installation]


@contextmanager
def enterable_folder() -> Iterator[Path]:
    """A folder that other users may enter, as the embedded servers of root must."""
    made = Path(tempfile.mkdtemp(prefix="nomaflow-e2e-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder of this module's own."""
    with enterable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def start(folder: Path) -> Iterator[Start]:
    """Start installations on project folders; all end with the module, in good order."""
    started: list[Installation] = []
    numbers = itertools.count()

    def begin(project: Path, **environment: str) -> Installation:
        place = folder / f"up-{next(numbers)}"
        place.mkdir(mode=0o755)
        made = Installation(place, project, environment)
        started.append(made)
        return made

    yield begin
    statuses = [made.stop() for made in started]
    assert all(status == 0 for status in statuses), started[0].said()[-3000:]


@pytest.fixture(scope="session")
def work_up() -> Iterator[Installation]:
    """One installation on the tests' own project, for every module that leaves it as it was."""
    with enterable_folder() as made:
        shutil.copytree(WORK, made / "work")
        installation = Installation(made, made / "work", {})
        yield installation
        assert installation.stop() == 0, installation.said()[-3000:]


@pytest.fixture(scope="module")
def example(folder: Path) -> Callable[[str], Path]:
    """Copy a recipe, so that a test may change it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, folder / name))

    return copy


@pytest.fixture(scope="module")
def work_project(folder: Path) -> Path:
    """The tests' own project: jobs that are quick, slow or stubborn."""
    return Path(shutil.copytree(WORK, folder / "work"))


@pytest.fixture(scope="module")
def make_database() -> Callable[[Installation, str], str]:
    """Make and fill a database of the recipes; gives the URL for its connector."""
    databases = load("databases.py")

    def make(installation: Installation, name: str) -> str:
        return asyncio.run(databases.make(installation.state.database_url, name))

    return make
