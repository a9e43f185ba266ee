import json

import pytest
from pydantic import ValidationError

from nomaflow.connectors import spec as connectors
from nomaflow.errors import NomaflowError, StepError
from nomaflow.job.problems import PATTERNS
from nomaflow.job.spec import JobSpec
from nomaflow.project.connectors import problems_of
from nomaflow.steps import registry
from nomaflow.steps.python import result_of
from nomaflow.steps.sql_copy import SqlCopy
from nomaflow.steps.sql_query import SqlQuery

SYNC = {"request": {"url": "http://x"}, "map": {"id": "id"}, "target": {"table": "t"}}
COPY = {"source": {"table": "a"}, "target": {"table": "b"}}


def test_every_type_says_what_each_setting_is_for():
    for name, step in registry.all_types().items():
        assert name == step.type_name
        assert step.title
        assert step.__doc__
        schema = json.dumps(registry.json_schema(name))
        assert schema
        for field, info in step.model_fields.items():
            assert info.description, f"{name}.{field} has no description"


def patterns(schema):
    match schema:
        case dict():
            found = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
            return found.union(*map(patterns, schema.values()))
        case list():
            return set().union(*map(patterns, schema))
    return set()


def test_patterns_have_words():
    """Nobody is told `String should match pattern '^...'`."""
    models = [
        *registry.all_types().values(),
        *(connectors.SqlConnectorSpec, connectors.HttpConnectorSpec, connectors.LdapConnectorSpec),
        JobSpec,
    ]
    asked = set().union(*(patterns(model.model_json_schema(by_alias=True)) for model in models))
    assert asked == PATTERNS.keys()
    watermark = {"name": "last sync", "value": "newest"}
    found = dict(registry.problems("http_sync", {**SYNC, "watermark": watermark}))
    assert found == {
        ("watermark", "name"): "it must be 1 to 128 letters, digits, `_` or `-`, got 'last sync'",
        ("watermark", "value"): "it must be run_start, completed_at or max:<column>, got 'newest'",
    }


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(NomaflowError, match="sql_query"):
        registry.step_type("sqlquery")


@pytest.mark.parametrize(
    ("type_name", "config", "path", "words"),
    [
        ("http", {}, ("url",), "required"),
        ("http", {"url": " "}, ("url",), "empty"),
        ("http", {"url": "http://x", "colour": 1}, ("colour",), "no such field"),
        ("http", {"url": "http://x", "method": "FETCH"}, ("method",), "'GET'"),
        ("http", {"url": "x\r\ny"}, ("url",), "line break"),
        ("http", {"url": "http://x", "headers": {"Host": "y"}}, ("headers",), "Host"),
        (
            "http",
            {"url": "http://x", "headers": {"Content-Length": "9"}},
            ("headers",),
            "Content-Length",
        ),
        (
            "http",
            {"url": "http://x", "headers": {"Transfer-Encoding": "c"}},
            ("headers",),
            "Transfer",
        ),
        (
            "http",
            {"url": "http://x", "headers": {"X-A": "1\r\nX-B: 2"}},
            ("headers",),
            "line break",
        ),
        ("http", {"url": "http://x", "headers": {"bad name": "1"}}, ("headers",), "bad name"),
        (
            "http",
            {"url": "http://x", "auth": {"type": "oauth2", "token_url": "t", "client_id": "i"}},
            ("auth", "oauth2", "client_secret"),
            "required",
        ),
        ("python", {"callable": "mod:"}, ("callable",), "module.path:function"),
        ("python", {"callable": ":f"}, ("callable",), "module.path:function"),
        ("python", {"callable": "..mod:f"}, ("callable",), "module.path:function"),
        ("python", {"callable": "m:o.__class__"}, ("callable",), "module.path:function"),
        ("python", {"callable": "m\u043ed:f"}, ("callable",), "module.path:function"),
        ("python", {"callable": "m" * 10_000 + ":f"}, ("callable",), "255"),
        ("python", {"callable": "m:f", "env": ["A B"]}, ("env",), "A B"),
        ("sql_query", {"connector": "a", "query": "SELECT :x"}, (), ":x"),
        ("sql_query", {"connector": "a", "query": "SELECT 1", "params": {"x": 1}}, (), "`x`"),
        ("sql_query", {"connector": "a", "query": "SELECT ${kw:x}"}, ("query",), "params"),
        ("sql_query", {"connector": "a", "query": "totals:delete"}, (), "no `:delete`"),
        ("sql_copy", {**COPY, "decimal_mode": "truncate"}, (), '`type_coercion = "jde"`'),
        ("sql_copy", {**COPY, "max_delete": "120%"}, ("max_delete",), "at most 100%"),
        ("sql_copy", {**COPY, "max_delete": "some"}, ("max_delete",), "a share as 20%"),
        ("sql_copy", {**COPY, "source": {}}, ("source",), "`table` or `query`"),
        ("sql_copy", {**COPY, "mode": "replace"}, ("mode",), "overwrite"),
        ("sql_copy", {**COPY, "batch_size": 0}, ("batch_size",), "greater"),
        ("sql_copy", {**COPY, "target": {"table": "a\0b"}}, ("target", "table"), "NUL"),
        ("sql_copy", {**COPY, "target": {"table": "x" * 64}}, ("target", "table"), "63"),
        ("sql_copy", {**COPY, "target": {"table": ""}}, ("target", "table"), "empty"),
    ],
)
def test_a_wrong_setting_is_named_with_a_sentence(type_name, config, path, words):
    found = registry.problems(type_name, config)
    assert any(at == path and words in sentence for at, sentence in found), found


PLAIN = "a-plain-token"


@pytest.mark.parametrize(
    "config",
    [
        {"auth": {"type": "beerer", "token": PLAIN}},
        {"auth": {"token": PLAIN}},
        {"auth": {"type": PLAIN}},
        {"auth": {"type": [PLAIN], "token": PLAIN}},
        {"auth": {"type": "bearer", "token": [PLAIN]}},
        {"auth": {"type": "api_key", "key": "k", "in": PLAIN}},
        {"auth": PLAIN},
        {"auth": [PLAIN]},
        {"headers": PLAIN},
        {"headers": {"Authorization": [PLAIN]}},
        {"query": [PLAIN]},
    ],
)
def test_what_may_be_a_secret_is_not_repeated_by_a_refusal(config):
    """By a step's check, and by that of a connector with the same setting."""
    of_step = [words for _, words in registry.problems("http", {"url": "http://x", **config})]
    connector = {"kind": "http", "url": "https://x", **config}
    of_connector = [words for _, words in problems_of("c", connector)]
    assert of_step
    assert of_connector
    assert not [words for words in (*of_step, *of_connector) if PLAIN in words]


@pytest.mark.parametrize(
    ("auth", "name"),
    [
        ({"type": "bearer", "token": "PLAIN"}, "token"),
        ({"type": "basic", "username": "u", "password": "PLAIN"}, "password"),
        ({"type": "api_key", "key": "PLAIN"}, "key"),
    ],
)
def test_secrets_of_requests_are_kept_as_references_only(auth, name):
    request = {"url": "https://x.example", "auth": auth}
    sync = {"request": request, "map": {"a": "a"}, "target": {"table": "t"}}
    for found in (registry.problems("http", request), registry.problems("http_sync", sync)):
        ((path, words),) = found
        assert path[-2:] == ("auth", name)
        assert "${env:NAME}" in words
        assert "PLAIN" not in words
    reference = {"url": "https://x.example", "auth": {**auth, name: "${env:T}"}}
    assert registry.problems("http", reference) == []


def test_a_user_without_a_password_is_no_secret():
    auth = {"type": "basic", "username": "${env:KEY}", "password": ""}
    assert registry.problems("http", {"url": "https://x.example", "auth": auth}) == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("query", "a=b", "it must be a table, got 'a=b'"),
        ("expected_statuses", "200", "it must be a list, got '200'"),
        ("retry_count", "many", "it must be a whole number, got 'many'"),
        ("follow_redirects", "perhaps", "it must be true or false, got 'perhaps'"),
    ],
)
def test_what_a_setting_must_be_is_said_in_the_words_of_a_file(setting, value, words):
    found = registry.problems("http", {"url": "https://x.example", setting: value})
    assert found == [((setting,), words)]


def test_an_unknown_way_to_show_who_one_is_names_the_known_ones():
    for auth, what in (
        ({"type": "beerer"}, "unknown type"),
        ({"token": "${env:T}"}, "names no type"),
    ):
        ((path, words),) = registry.problems("http", {"url": "http://x", "auth": auth})
        assert path == ("auth",)
        assert what in words
        assert "bearer, basic, api_key, oauth2, aws_sigv4" in words


def test_settings_with_substitutions_wait_for_their_values():
    assert registry.problems("http", {"url": "${env:U}", "retry_count": "${kw:n}"}) == []
    assert registry.problems("sql_copy", {**COPY, "batch_size": "${kw:n}"}) == []
    assert registry.problems("python", {"callable": "m:f", "op_kwargs": {"a": "${kw:a}"}}) == []


def test_sql_text_is_never_rendered():
    config = {
        "connector": "${kw:c}",
        "query": "SELECT '${kw:c}', :x",
        "params": {"x": "${kw:x}"},
    }
    step = SqlQuery.prepare(
        config, lambda value: "rendered" if isinstance(value, str) else {"x": 1}
    )
    assert isinstance(step, SqlQuery)
    assert (step.connector, step.query) == ("rendered", "SELECT '${kw:c}', :x")
    raw = {**COPY, "source": {"connector": "c", "table": "t", "where": "a = ${x}"}}
    copied = SqlCopy.prepare(raw, lambda value: "r" if isinstance(value, str) else {"table": "r"})
    assert isinstance(copied, SqlCopy)
    assert (copied.source.table, copied.source.where) == ("r", "a = ${x}")


def test_a_step_is_repeated_after_an_interruption_only_where_that_is_harmless():
    def default(name, **config):
        return registry.step_type(name).model_validate(config).interrupt_default()

    assert default("sql_copy", **COPY) == "retry"
    assert default("sql_copy", **COPY, mode="append") == "fail"
    assert default("http", url="http://x") == "retry"
    assert default("http", url="http://x", method="post") == "fail"
    assert default("sql_query", connector="c", query="SELECT 1") == "retry"
    assert default("sql_query", connector="c", query="refresh:write") == "fail"
    assert default("python", callable="m:f") == "fail"


@pytest.mark.parametrize(
    ("returned", "output", "affected", "summary"),
    [
        (None, {}, None, ""),
        (7, {"rows_affected": 7}, 7, "7 rows affected"),
        ({"fetched": 30, "inserted": 2}, {"fetched": 30, "inserted": 2}, None, "fetched: 30"),
        ({"rows_affected": 4}, {"rows_affected": 4}, 4, "rows_affected: 4"),
    ],
)
def test_what_a_function_returns_decides_the_output(returned, output, affected, summary):
    result = result_of("m:f", returned)
    assert (result.output, result.rows_affected) == (output, affected)
    assert result.summary.startswith(summary)


@pytest.mark.parametrize(
    "returned", [True, "text", [1], 1.5, {"a": object()}, {1: 2}, {"a": 1e999}]
)
def test_other_returns_fail_the_step(returned):
    with pytest.raises(StepError, match="m:f returned"):
        result_of("m:f", returned)


def test_connectors_load_by_kind_and_keep_their_tokens():
    sql = connectors.parse(
        {
            "kind": "sql",
            "url": "${env:URL}",
            "pool_size": "${env:N}",
            "queries": {"q": {"operation": "write", "sql": "UPDATE t SET a = '${x}'"}},
        }
    )
    rendered = sql.rendered(
        lambda value: {"${env:URL}": "postgresql://h/d", "${env:N}": "3"}.get(value, value)
    )
    assert isinstance(rendered, connectors.SqlConnectorSpec)
    assert (rendered.url, rendered.pool_size) == ("postgresql://h/d", 3)
    assert rendered.queries["q"].sql == "UPDATE t SET a = '${x}'"
    assert "postgresql" not in repr(rendered)
    assert connectors.parse({"kind": "ldap", "url": "ldaps://h"}).kind == "ldap"


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "sql"},
        {"kind": "sql", "url": "a", "host": "b"},
        {"kind": "sql", "url": "a", "poolsize": 1},
        {"kind": "ftp", "url": "a"},
        {"kind": "http"},
        {"kind": "http", "url": "a", "headers": {"Host": "b"}},
        {
            "kind": "http",
            "url": "a",
            "auth": {"type": "oauth2", "token_url": "t", "client_id": "i", "client_secret": "s"},
        },
        {"kind": "sql", "url": "a", "queries": {"q": {"operation": "delete", "sql": "x"}}},
    ],
)
def test_a_wrong_connector_is_refused(raw):
    with pytest.raises(ValidationError):
        connectors.parse(raw)
