"""Circles of jobs."""

import pytest

from nomaflow.job import circles

EDGES = {"a": ["b", "x"], "b": ["c"], "c": ["a", "y"], "self": ["self"], "on": ["a"], "y": []}


@pytest.mark.parametrize(
    ("name", "circle"),
    [
        ("a", ("a", "b", "c", "a")),
        ("c", ("c", "a", "b", "c")),
        ("self", ("self", "self")),
        ("on", None),
        ("y", None),
        ("unknown", None),
    ],
)
def test_the_circle_through_a_job(name, circle):
    assert circles.through(name, EDGES) == circle


def test_a_long_chain_is_no_circle():
    edges = {f"job-{n}": [f"job-{n + 1}"] for n in range(5000)}
    assert circles.through("job-0", edges) is None


def test_which_jobs_are_called():
    steps = [
        ("call_job", "b"),
        ("call_job", "${kw:next}"),
        ("http", "c"),
        ("call_job", "d"),
        ("call_job", "b"),
        ("call_job", None),
    ]
    assert circles.calls(steps) == {"b": 0, "d": 3}


def test_words():
    assert circles.in_words(("a", "b", "a")) == "`a` → `b` → `a`"
