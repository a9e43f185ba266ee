"""What `nomaflow job run` was told becomes the API's input, or a sentence."""

import pytest

from nomaflow.cli import run_arguments
from nomaflow.errors import Code, NomaflowError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": null}}', {"a": {"b": None}}),
        ("sandbox", "sandbox"),
        ("2026-11-25", "2026-11-25"),
        ("007", "007"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("", ""),
        ("a=b", "a=b"),
        ("{broken", "{broken"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_where_it_is_json_else_text(text, value):
    assert run_arguments.params([f"name={text}"]) == {"name": value}


def test_params_keep_their_order_and_may_hold_dots():
    assert list(run_arguments.params(["b=1", "a.c=2"]).items()) == [("b", 1), ("a.c", 2)]


def test_kwargs_are_grouped_by_step():
    given = ["copy-orders.batch_size=500", "copy-orders.where=x > 1", "notify.retry.n=2"]
    assert run_arguments.step_kwargs(given) == {
        "copy-orders": {"batch_size": 500, "where": "x > 1"},
        "notify": {"retry.n": 2},
    }


@pytest.mark.parametrize(
    ("word", "on"), [("on", True), ("OFF", False), ("true", True), ("no", False), ("0", False)]
)
def test_a_step_is_switched_by_a_word(word, on):
    assert run_arguments.step_enabled([f"notify-slack={word}"]) == {"notify-slack": on}


@pytest.mark.parametrize(
    ("read", "given", "sentence"),
    [
        (run_arguments.params, ["alone"], "--param `alone` is not NAME=VALUE."),
        (run_arguments.params, ["=5"], "--param `=5` is not NAME=VALUE."),
        (run_arguments.params, ["a=1", "a=2"], "give it once"),
        (
            run_arguments.step_kwargs,
            ["batch_size=5"],
            "--kwarg `batch_size` is not STEP.NAME=VALUE",
        ),
        (run_arguments.step_kwargs, ["step.=5"], "is not STEP.NAME=VALUE"),
        (run_arguments.step_enabled, ["notify"], "--step `notify` is not NAME=VALUE."),
        (run_arguments.step_enabled, ["notify=maybe"], "is not NAME=on or NAME=off"),
    ],
)
def test_what_cannot_be_read_is_named(read, given, sentence):
    with pytest.raises(NomaflowError, match="--") as refused:
        read(given)
    assert refused.value.code is Code.INVALID
    assert sentence in refused.value.message
