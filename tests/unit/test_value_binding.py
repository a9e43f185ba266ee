from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from nomaflow.connectors.postgres.binding import Bound, bind
from nomaflow.errors import StepError


class Type:
    def __init__(self, name, schema="pg_catalog"):
        self.name, self.schema, self.oid = name, schema, 0
        self.kind = "array" if name.endswith("[]") else "scalar"


@pytest.mark.parametrize(
    ("value", "type_name", "bound"),
    [
        (None, "int4", Bound(None)),
        (5, "int4", Bound(5)),
        (5.0, "int8", Bound(5)),
        (5, "float8", Bound(5)),
        (0.1, "numeric", Bound("0.1", '::text::"pg_catalog"."numeric"')),
        (Decimal("1.50"), "numeric", Bound(Decimal("1.50"))),
        ("1.5", "numeric", Bound("1.5", '::text::"pg_catalog"."numeric"')),
        ("2024-01-01", "date", Bound("2024-01-01", '::text::"pg_catalog"."date"')),
        (date(2024, 1, 1), "date", Bound(date(2024, 1, 1))),
        ("x", "text", Bound("x")),
        (5, "text", Bound("5")),
        (True, "text", Bound("true")),
        ({"a": [1]}, "jsonb", Bound('{"a": [1]}')),
        ('{"a": 1}', "jsonb", Bound('{"a": 1}')),
        ([1, 2], "json", Bound("[1, 2]")),
        ([1, None, 2], "int4[]", Bound([1, None, 2])),
        (["1", 2], "int4[]", Bound(["1", "2"], '::text[]::"pg_catalog"."int4"[]')),
        ("{1,2}", "int4[]", Bound("{1,2}", '::text::"pg_catalog"."int4"[]')),
        ("101", "bit", Bound("101", '::text::"pg_catalog"."bit"')),
        (b"\x00\xff", "bytea", Bound(b"\x00\xff")),
        (1, "bool", Bound("1", '::text::"pg_catalog"."bool"')),
        (timedelta(1, 2, 3), "interval", Bound(timedelta(1, 2, 3))),
        (time(1, 2), "time", Bound(time(1, 2))),
    ],
)
def test_a_value_is_sent_as_the_server_would_read_it(value, type_name, bound):
    assert bind("x", value, Type(type_name)) == bound


def test_an_aware_time_for_a_plain_timestamp_is_converted_by_the_server():
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    assert bind("x", moment, Type("timestamptz")) == Bound(moment)
    bound = bind("x", moment, Type("timestamp"))
    assert bound == Bound(moment, '::timestamptz::"pg_catalog"."timestamp"')
    naive = datetime(2024, 1, 1)  # noqa: DTZ001  the case in question
    assert bind("x", naive, Type("timestamptz")).value == "2024-01-01T00:00:00"


def test_a_users_type_is_quoted():
    assert bind("x", "ok", Type('mo"od', 'my"s')).cast == '::text::"my""s"."mo""od"'


@pytest.mark.parametrize(
    ("value", "type_name"),
    [(5.5, "int4"), ("a\0b", "text"), ({"a": float("nan")}, "jsonb"), ({"a": {1}}, "json")],
)
def test_a_value_that_would_be_changed_is_refused_by_name(value, type_name):
    with pytest.raises(StepError, match="`x`"):
        bind("x", value, Type(type_name))


def test_values_inside_json_keep_their_meaning():
    value = {"id": UUID(int=1), "n": Decimal("1.50"), "at": date(2024, 1, 2)}
    assert bind("x", value, Type("jsonb")).value == (
        '{"id": "00000000-0000-0000-0000-000000000001", "n": "1.50", "at": "2024-01-02"}'
    )
