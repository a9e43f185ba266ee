"""How a plugin's function receives its context and its arguments."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from nomaflow.errors import StepError
from nomaflow.plugins.binding import bind
from nomaflow.plugins.offers import offers
from nomaflow.testing import TestContext

CTX = object()


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mine:
    """A type that nothing is made into."""


def call(function, *, kwargs=None, params=None, offers=None) -> Any:
    bound = bind(
        "m:f",
        function,
        CTX,
        kwargs=kwargs or {},
        params=params or {},
        offers={name: (lambda v=value: v) for name, value in (offers or {}).items()},
    )
    return function(*bound.args, **bound.kwargs)


def refusal(function, **given) -> str:
    with pytest.raises(StepError) as refused:
        call(function, **given)
    assert not refused.value.retryable
    return refused.value.message


def test_the_seeds_form_takes_the_context_first_and_keywords_after():
    def f(ctx, *, repo: str, target_connector: str, **_):
        return ctx, repo, target_connector

    params = {"repo": "a/b", "target_connector": "default", "page": 3}
    assert call(f, params=params) == (CTX, "a/b", "default")


def test_the_context_may_have_any_name():
    assert call(lambda anything: anything) is CTX


def test_the_context_may_be_positional_only_or_keyword_only():
    def before(ctx, /, *, a):
        return ctx, a

    def after(*, a, context):
        return context, a

    assert call(before, kwargs={"a": 1}) == (CTX, 1)
    assert call(after, kwargs={"a": 1}) == (CTX, 1)


def test_a_function_without_parameters_is_called_without_any():
    assert call(lambda: "done", params={"a": 1}) == "done"


def test_everything_by_keyword_when_the_first_parameter_is_one_of_the_names():
    def f(connectors, period, logger=None):
        return connectors, period, logger

    offers = {"connectors": "C", "logger": "L", "run_id": "R"}
    assert call(f, kwargs={"period": "2026-01"}, offers=offers) == ("C", "2026-01", "L")


def test_params_that_the_function_does_not_take_are_dropped():
    def f(ctx, *, a):
        return a

    assert call(f, params={"a": 1, "b": 2}) == 1


def test_a_double_star_catches_params_and_kwargs_but_nothing_offered():
    def f(ctx, **rest):
        return rest

    given = call(f, kwargs={"a": 1}, params={"b": 2}, offers={"logger": "L"})
    assert given == {"a": 1, "b": 2}


def test_kwargs_win_over_params_and_both_over_what_is_offered():
    def f(ctx, *, a, b, run_id):
        return a, b, run_id

    given = call(f, kwargs={"a": 1}, params={"a": 9, "b": 2, "run_id": "p"}, offers={"run_id": "o"})
    assert given == (1, 2, "p")


def test_a_kwarg_the_function_does_not_take_is_named():
    def f(ctx, *, threshold=1):
        return threshold

    words = refusal(f, kwargs={"treshold": 2})
    assert words == "m:f does not take 'treshold' of kwargs: it takes threshold"


def test_a_kwarg_may_not_stand_in_for_the_context():
    def f(ctx, **_):
        return ctx

    assert "receives 'ctx' from the engine" in refusal(f, kwargs={"ctx": 1})
    assert call(f, params={"ctx": 1}) is CTX


def test_a_missing_argument_is_named():
    def f(ctx, *, repo, page=1):
        return repo, page

    words = refusal(f)
    assert words == "m:f needs 'repo': give it in the step's kwargs or in the job's params"


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (float, "50", 50.0),
        (float, 50, 50.0),
        (int, "7", 7),
        (int, 7.0, 7),
        (bool, "yes", True),
        (bool, "OFF", False),
        (bool, 1, True),
        (str, 5, "5"),
        (str, True, "true"),
        (int | None, "7", 7),
        (int | None, "", None),
        (int | None, None, None),
        (int | str, "7", "7"),
        (list, "[7]", [7]),
        (list[int], ["7", 8], [7, 8]),
        (list[int], "[1, 2]", [1, 2]),
        (tuple[int, ...], ["1", "2"], (1, 2)),
        (tuple[str, int], ["a", "2"], ("a", 2)),
        (set[str], ["a", "a"], {"a"}),
        (Sequence[float], ["1.5"], [1.5]),
        (dict, '{"a": 1}', {"a": 1}),
        (Mapping[str, date], {"a": "2026-05-01"}, {"a": date(2026, 5, 1)}),
        (list[int] | None, "", None),
        (Literal["full", "delta"], "delta", "delta"),
        (Literal[1, 2], "2", 2),
        (Literal["a"] | None, None, None),
        (Colour, "red", Colour.RED),
        (Colour, "BLUE", Colour.BLUE),
        (Level, "2", Level.HIGH),
        (date, "2026-05-01", date(2026, 5, 1)),
        (date, "2026-05-01T00:00:00Z", date(2026, 5, 1)),
        (datetime, "2026-05-01T02:03:04Z", datetime(2026, 5, 1, 2, 3, 4, tzinfo=UTC)),
        (datetime | None, "", None),
        (Decimal, "12.30", Decimal("12.30")),
        (Decimal, 1.1, Decimal("1.1")),
        (timedelta, 90, timedelta(seconds=90)),
        (timedelta, "1h30m", timedelta(minutes=90)),
        (timedelta, "0.5", timedelta(seconds=0.5)),
        (UUID, "00000000-0000-7000-8000-000000000000", UUID(int=0x70008000 << 48)),
        (Annotated[int, "rows"], "7", 7),
        (Any, "7", "7"),
        (Mine | int, "7", "7"),
        (dict[str, int], {"a": 1}, {"a": 1}),
        ("float", "1.5", 1.5),
        ("NotKnownHere", "1.5", "1.5"),
    ],
)
def test_text_becomes_what_the_annotation_says(annotation, given, expected):
    def f(ctx, *, value):
        return value

    f.__annotations__["value"] = annotation
    received = call(f, kwargs={"value": given})
    assert received == expected
    assert type(received) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given", "words"),
    [
        (int, "seven", "m:f wants 'value' as int, and 'seven' is not one"),
        (int, 7.5, "m:f wants 'value' as int, and 7.5 is not one"),
        (bool, "perhaps", "m:f wants 'value' as bool, and 'perhaps' is not one"),
        (int | None, "x", "m:f wants 'value' as int or none, and 'x' is not one"),
        (float, [], "m:f wants 'value' as float, and [] is not one"),
        (list[int], ["x"], "m:f wants 'value' as list of int, and ['x'] is not one"),
        (list[int], "1, 2", "m:f wants 'value' as list of int, and '1, 2' is not one"),
        (tuple[str, int], ["a"], "m:f wants 'value' as tuple of int, and ['a'] is not one"),
        (dict[str, int], "[]", "m:f wants 'value' as dict of int, and '[]' is not one"),
        (Literal["a", "b"], "c", "m:f wants 'value' as one of 'a', 'b', and 'c' is not one"),
        (Colour, "green", "m:f wants 'value' as one of 'red', 'blue', and 'green' is not one"),
        (date, "2026-02-30", "m:f wants 'value' as date, and '2026-02-30' is not one"),
        (
            date,
            "2026-05-01T10:00:00",
            "m:f wants 'value' as date, and '2026-05-01T10:00:00' is not one",
        ),
        (Decimal, "1,5", "m:f wants 'value' as Decimal, and '1,5' is not one"),
        (int, "9" * 5000, f"m:f wants 'value' as int, and '{'9' * 79} is not one"),
        (list, "[" * 100_000, f"m:f wants 'value' as list, and '{'[' * 79} is not one"),
    ],
)
def test_what_cannot_be_converted_fails_in_words(annotation, given, words):
    def f(ctx, *, value):
        return value

    f.__annotations__["value"] = annotation
    assert refusal(f, params={"value": given}) == words


def test_a_decorated_function_is_bound_by_the_signature_it_wraps():
    def twice(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs) * 2

        return wrapper

    @twice
    def f(ctx, *, n: int):
        return n

    assert call(f, kwargs={"n": "4"}) == 8


@pytest.mark.parametrize(
    ("engine", "given", "seen"),
    [(True, {}, True), (True, {"dry_run": False}, True), (False, {"dry_run": "yes"}, True)],
)
def test_a_dry_run_reaches_the_function_whatever_its_params_say(engine, given, seen):
    def f(ctx, *, dry_run: bool = False):
        return dry_run

    assert call(f, params=given, offers={"dry_run": engine}) is seen
    assert call(f, params={}, offers={"dry_run": False}) is False


def test_every_offer_of_the_second_vocabulary_is_there():
    ctx = TestContext(connectors={"default": "C"}, params={"a": 1}, outputs={"one": {"x": 1}})
    given = offers(
        ctx, kwargs={"b": 2}, connectors=ctx.connectors, last_step=ctx.previous_step("one")
    )

    def f(*, connectors, pools, params, step_kwargs, previous_step, logger, settings, **_):
        assert list(connectors) == list(pools) == ["default"]
        assert (params, step_kwargs, previous_step.output) == ({"a": 1}, {"b": 2}, {"x": 1})
        assert logger is ctx.log
        return dict(settings)

    bound = bind("m:f", f, ctx, kwargs={}, params={}, offers=given)
    settings = f(**bound.kwargs)
    assert settings["session_user"] == "tester"
    assert settings["dry_run"] is False
    assert {"run_id", "job_id", "step_name", "session_user", "dry_run"} < given.keys()
