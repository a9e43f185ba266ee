"""`ctx.state`: watermarks as a function reads and moves them."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from nomaflow.errors import StepError
from nomaflow.plugins.state import State


def test_reading():
    state = State({"last": "2026-01-01"})
    assert state["last"] == state.get("last", "x") == "2026-01-01"
    assert state.get("other", "none") == "none"
    assert "other" not in state
    assert dict(state) == {"last": "2026-01-01"}
    with pytest.raises(KeyError):
        state["other"]


def test_setting_proposes_and_is_seen_at_once():
    told = []
    state = State({"last": "1"}, lambda *move: told.append(move))
    state.set("last", 2)
    state.set("new", "x")
    assert (state["last"], state["new"], len(state)) == ("2", "x", 2)
    assert told == [("last", "2"), ("new", "x")]
    assert state.proposed == {"last": "2", "new": "x"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (12345678901234567890, "12345678901234567890"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 5, 1), "2026-05-01"),
        (datetime(2026, 5, 1, 2, 3, 4, tzinfo=UTC), "2026-05-01T02:03:04Z"),
        (datetime(2026, 5, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-05-01T00:00:00Z"),
        (datetime(2026, 5, 1, 2, 0, 0, 5), "2026-05-01T02:00:00.000005Z"),  # noqa: DTZ001
    ],
)
def test_how_a_value_is_kept(value, text):
    state = State({})
    state.set("x", value)
    assert state["x"] == text


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("", "x", "is no name for a watermark"),
        ("a b", "x", "is no name for a watermark"),
        (7, "x", "is no name for a watermark"),
        ("x", None, "cannot be None"),
        ("x", True, "cannot be True"),
        ("x", ["a"], "cannot be a list"),
        ("x", "a" * 10_001, "longer than 10000"),
        ("x", "a\0b", "NUL"),
    ],
)
def test_what_cannot_be_kept(name, value, words):
    with pytest.raises(StepError, match=words):
        State({}).set(name, value)


def test_a_step_moves_a_thousand_at_most():
    state = State({})
    for number in range(1000):
        state.set(f"m{number}", number)
    state.set("m0", "again")
    with pytest.raises(StepError, match="1000 watermarks at most"):
        state.set("one-more", 1)
