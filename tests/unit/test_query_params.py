from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import ValidationError

from nomaflow.connectors import query_params, spec, sql
from nomaflow.errors import StepError

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
ID = UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("string", True, "true"),
        ("int", 5, 5),
        ("int", " -7 ", -7),
        ("int", 5.0, 5),
        ("float", "1.5", 1.5),
        ("bool", "yes", True),
        ("bool", 0, False),
        ("date", "2024-05-06", date(2024, 5, 6)),
        ("datetime", "2024-05-06T12:00:00Z", NOON),
        ("datetime", date(2024, 5, 6), datetime(2024, 5, 6)),  # noqa: DTZ001
        ("decimal", "1.10", Decimal("1.10")),
        ("decimal", 0.1, Decimal("0.1")),
        ("json", {"a": 1}, {"a": 1}),
        ("json", "[1]", "[1]"),
        ("uuid", str(ID), ID),
        ("int", None, None),
    ],
)
def test_a_value_becomes_what_was_declared(kind, given, found):
    made = query_params.coerced(kind, given)
    assert (made, type(made)) == (found, type(found))


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("string", {"a": 1}, "is not a text"),
        ("int", "5x", "'5x' is not a whole number"),
        ("int", 5.5, "whole number"),
        ("int", True, "whole number"),
        ("int", "٣", "whole number"),
        ("int", "9" * 5000, "…"),
        ("float", "nan", "a number"),
        ("float", float("inf"), "a number"),
        ("bool", "perhaps", "true or false"),
        ("bool", 2, "true or false"),
        ("date", "2024-02-30", "a date, as"),
        ("date", NOON, "a date, as"),
        ("date", "", "a date, as"),
        ("datetime", "noon", "a date with a time"),
        ("decimal", "NaN", "a decimal number"),
        ("json", "{", "is not JSON"),
        ("uuid", "6f96", "a UUID"),
        ("uuid", 5, "a UUID"),
    ],
)
def test_what_it_cannot_become_is_said(kind, given, words):
    with pytest.raises(ValueError, match=words):
        query_params.coerced(kind, given)


QUERY = {
    "sql": "SELECT * FROM t WHERE at >= :since AND n = :n AND x = ':y'",
    "params": {
        "since": {"type": "date", "required": True},
        "n": {"type": "int", "default": "3"},
    },
}


def named(given, /, **query):
    table = {"kind": "sql", "url": "mysql://h/d", "queries": {"q": {**QUERY, **query}}}
    return sql.named_query("shop", spec.parse(table), "q", given)[1]


def test_a_call_gets_types_and_defaults():
    assert named({"since": "2024-05-06"}) == {"since": date(2024, 5, 6), "n": 3}
    assert named({"since": date(2024, 5, 6), "n": None})["n"] is None


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "needs the parameter `since`"),
        ({"since": None}, "needs the parameter `since`"),
        ({"since": "soon"}, "parameter `since`: 'soon' is not a date"),
        ({"since": "2024-05-06", "y": 1}, "no parameter `y`; it has `since`, `n`"),
    ],
)
def test_a_call_that_does_not_fit_fails_for_good(params, words):
    with pytest.raises(StepError, match=words) as caught:
        named(params)
    assert not caught.value.retryable


def test_a_query_without_declarations_takes_what_its_sql_names():
    assert named({"since": 1, "n": 2}, params={}) == {"since": 1, "n": 2}
    with pytest.raises(StepError, match="no parameter `m`"):
        named({"since": 1, "n": 2, "m": 3}, params={})


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"params": {"since": {}, "n": {}, "y": {}}}, "declares the parameter `y`"),
        ({"params": {"since": {}}}, "uses `:n`"),
        ({"params": {"since": {"type": "date", "default": "x"}, "n": {}}}, "the default 'x' is"),
        ({"sql": "SELECT $1, ?, :1 \0"}, "otherwise than as `:name`"),
    ],
)
def test_a_declaration_that_contradicts_its_sql_is_refused_at_load(query, words):
    with pytest.raises(ValidationError, match=words):
        named({}, **query)
