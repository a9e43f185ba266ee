"""What a function may return, and what it is told when it may not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

import pytest

from nomaflow.errors import StepError
from nomaflow.plugins.values import to_json


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        (Decimal("12.50"), 12.5),
        (Decimal("1E+3"), 1000),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("1E+100000"), "1E+100000"),
        (Decimal("NaN"), "NaN"),
        (date(2026, 11, 25), "2026-11-25"),
        (datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC), "2026-11-25T01:02:03+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        ({3}, [3]),
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_what_json_does_not_know_is_written_sensibly(value, expected):
    assert json.loads(to_json(value, "f returned")) == expected


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": float("nan")}, "f returned nan at /a: JSON has no word for it"),
        ({"rows": [1, b"x"]}, "f returned a bytes at /rows/1, which JSON cannot hold"),
        (object(), "f returned a object at /, which JSON cannot hold"),
        ({("a", 1): 2}, "f returned a dict with the key ('a', 1) at /: keys are text"),
        (deep(5000), "f returned something nested more than 100 deep, or inside itself"),
    ],
)
def test_what_cannot_be_json_is_named_with_its_place(value, words):
    with pytest.raises(StepError) as refused:
        to_json(value, "f returned")
    assert refused.value.message == words
    assert not refused.value.retryable


def test_a_value_inside_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(StepError, match="inside itself"):
        to_json(value, "f returned")
