"""The committed schema is the one the code makes, and keeps the conventions it began with."""

from pathlib import Path

import pytest
from graphql import (
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)

from nomaflow_api import schema

COMMITTED = Path(__file__).parents[2] / "schema.graphql"


@pytest.fixture(scope="module")
def graph():
    return schema.Schema()._schema


def test_the_committed_schema_is_the_printed_one():
    assert COMMITTED.read_text() == schema.printed(), (
        "run: python -m nomaflow_api.schema > schema.graphql"
    )


def ours(graph):
    return {n: t for n, t in graph.type_map.items() if not n.startswith("__")}


def test_every_mutation_answers_with_a_payload_and_the_callers_mistakes(graph):
    for name, mutation in graph.mutation_type.fields.items():
        payload = get_named_type(mutation.type)
        assert payload.name.endswith("Payload"), name
        assert str(payload.fields["errors"].type) == "[UserError!]!", name


def test_every_growing_list_is_a_connection_with_a_default_page(graph):
    for type_name, kind in ours(graph).items():
        if not is_object_type(kind):
            continue
        for name, field in kind.fields.items():
            if str(field.type).endswith("Connection!"):
                assert {"first", "after"} <= set(field.args), f"{type_name}.{name}"
                assert field.args["first"].default_value <= 1000
                assert "pageInfo" in get_named_type(field.type).fields


def test_no_list_holds_nulls_and_no_value_of_an_enum_is_small(graph):
    for type_name, kind in ours(graph).items():
        if is_enum_type(kind):
            assert all(value.isupper() for value in kind.values), type_name
        if not (is_object_type(kind) or is_input_object_type(kind)):
            continue
        for name, field in kind.fields.items():
            bare = field.type.of_type if is_non_null_type(field.type) else field.type
            if is_list_type(bare):
                assert is_non_null_type(bare.of_type), f"{type_name}.{name}"


PLAIN_TIMES = {"at", "since", "from", "until", "scheduledFor", "fires", "upcoming"}


def test_times_end_in_at_and_durations_in_seconds(graph):
    for type_name, kind in ours(graph).items():
        if not is_object_type(kind):
            continue
        for name, field in kind.fields.items():
            if get_named_type(field.type).name == "DateTime" and not is_list_type(field.type):
                assert name in PLAIN_TIMES or name.endswith(("At", "Until")), f"{type_name}.{name}"
            if name.endswith("Seconds"):
                assert get_named_type(field.type).name == "Float", f"{type_name}.{name}"


@pytest.mark.parametrize("name", ["JobInput", "ScheduleInput"])
def test_whole_minutes_are_whole_numbers(graph, name):
    """A client's variable of type Int does not fit a Float."""
    assert str(graph.type_map[name].fields["catchUpWindowMinutes"].type) == "Int"
