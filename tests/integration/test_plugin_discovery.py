"""The list of functions that a step can name (P14): read from text, whatever that text would do."""

import os
from pathlib import Path
from textwrap import dedent

import pytest

from nomaflow.plugins import discovery

SYNC = '''
"""A module."""
import os, sys
from elsewhere import helper

raise SystemExit("importing this would end the process")

async def upsert(ctx, *, repo: str, page: int = 1, since: "str | None" = None, **_) -> dict:
    """Upsert what the step before fetched.

    More words.
    """

def second(connectors, period: str, limit=10, weird=os.sep, items=[1, 2], where={"a": 1}):
    pass

def positional_only(anything, /, a, *, ctx=None, b=(1, 2)): ...

def _hidden(ctx): ...

class NotAFunction:
    def method(self): ...

if sys.version_info > (3, 0):
    def conditional(ctx): """Only sometimes."""
try:
    import fast
except ImportError:
    def fallback(): ...

assigned = upsert
'''


@pytest.fixture
def plugins(tmp_path) -> Path:
    root = tmp_path / "plugins"

    def write(name: str, text: str) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    write("releases/__init__.py", "def whole(ctx): ...")
    write("releases/sync.py", SYNC)
    write("broken.py", "def f(:\n")
    write("nul.py", "x = 1\0")
    write("not-a-module.py", "def f(ctx): ...")
    write(".hidden/x.py", "def f(ctx): ...")
    write("class.py", "def f(ctx): ...")
    write("deep/er/still.py", "def f(ctx): ...")
    write("../outside.py", "def f(ctx): ...")
    (root / "linked.py").symlink_to(tmp_path / "outside.py")
    (root / "empty.py").touch()
    return root


def test_what_is_found(plugins):
    found = {function.callable: function for function in discovery.callables(plugins)}
    assert list(found) == [
        "deep.er.still:f",
        "releases.sync:conditional",
        "releases.sync:fallback",
        "releases.sync:positional_only",
        "releases.sync:second",
        "releases.sync:upsert",
        "releases:whole",
    ]
    upsert = found["releases.sync:upsert"]
    assert (upsert.name, upsert.is_async, upsert.takes_more) == ("upsert", True, True)
    assert upsert.summary == "Upsert what the step before fetched."
    assert [p.as_json() for p in upsert.parameters] == [
        {"name": "repo", "annotation": "str", "required": True, "default": None},
        {"name": "page", "annotation": "int", "required": False, "default": 1},
        {"name": "since", "annotation": "'str | None'", "required": False, "default": None},
    ]
    second = {p.name: p.default for p in found["releases.sync:second"].parameters}
    assert second == {
        "period": None,
        "limit": 10,
        "weird": "os.sep",
        "items": [1, 2],
        "where": {"a": 1},
    }
    names = [(p.name, p.default) for p in found["releases.sync:positional_only"].parameters]
    assert names == [("a", None), ("b", "(1, 2)")]


def test_an_edit_is_seen(plugins):
    path = plugins / "releases" / "sync.py"
    assert discovery.missing(plugins, "releases.sync:upsert") is None
    path.write_text("def renamed(ctx): ...")
    os.utime(path, ns=(1, 1))
    words = discovery.missing(plugins, "releases.sync:upsert")
    assert words == "plugins/releases/sync.py has no function 'upsert': it has renamed"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("releases.sync:assigned", None),
        ("releases.sync:conditional", None),
        ("releases:whole", None),
        ("releases.sync:helper", "has no function 'helper'"),
        ("releases.sync:NotAFunction", "has no function 'NotAFunction'"),
        ("nowhere:f", "there is neither nowhere.py nor nowhere/__init__.py under plugins/"),
        ("broken:f", "plugins/broken.py cannot be read: line 1: invalid syntax"),
        ("nul:f", "plugins/nul.py cannot be read: "),
        ("empty:f", "plugins/empty.py has no function 'f'"),
    ],
)
def test_why_a_callable_is_missing(plugins, text, words):
    said = discovery.missing(plugins, text)
    assert said == words if words is None else words in said


def test_no_plugins_at_all(tmp_path):
    assert discovery.callables(tmp_path / "none") == []


def test_a_file_too_large_or_too_deep_is_passed_over(plugins):
    (plugins / "large.py").write_text("#" * (discovery.LARGEST + 1))
    (plugins / "deep.py").write_text("(" * 5000 + ")" * 5000)
    assert "larger than 1024 KB" in discovery.missing(plugins, "large:f")
    assert "cannot be read" in discovery.missing(plugins, "deep:f")
    assert len(discovery.callables(plugins)) == 7
