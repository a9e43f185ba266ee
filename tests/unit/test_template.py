"""Substitutions: what each token gives, what is refused and how it is said, and the round trip."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomaflow.errors import Code
from nomaflow.language import template
from nomaflow.language.template import Scope, TemplateError

SCOPE = Scope(
    env={"TOKEN": "s3cret", "EMPTY": "", "TRAP": "${env:TOKEN}"},
    kw={"repo": "x/y", "rows": 5, "on": True, "deep": {"list": [1, {"id": 2}]}, "none": None},
    outputs={
        "fetch": {"status": 200, "body": [{"id": 7}, {"id": 8}], "output": "inner"},
        "count-all": {"rows": 3},
    },
    previous={"rows": 3},
    ctx={
        "run_id": "R",
        "job_name": "sync",
        "step": "copy",
        "attempt": 2,
        "triggered_by": "cron",
        "scheduled_for": None,
        "started_at": "2026-03-15T01:00:00Z",
        "dry_run": False,
    },
    state={"last_sync": None, "cursor": {"page": 4}},
    now=datetime(2026, 3, 15, 2, 0, tzinfo=ZoneInfo("Europe/Paris")),
    connector_secrets={"password": "p"},
)

FILLED = [
    ("plain", "plain"),
    ("${env:TOKEN}", "s3cret"),
    ("${env.TOKEN}", "s3cret"),
    ("${TOKEN}", "s3cret"),
    ("Bearer ${env:TOKEN}!", "Bearer s3cret!"),
    ("${secret:password}", "p"),
    # A value that is one token keeps its type; inside text it is written out.
    ("${kw:rows}", 5),
    ("${params.rows}", 5),
    ("n=${kw:rows}", "n=5"),
    ("${kw:on}", True),
    ("on=${kw:on}", "on=true"),
    ("${kw:none}", None),
    ("[${kw:none}]", "[]"),
    ("${kw:deep}", {"list": [1, {"id": 2}]}),
    ("deep=${kw:deep}", 'deep={"list":[1,{"id":2}]}'),
    ("${kw:deep.list.1.id}", 2),
    ("${params.deep.list[1].id}", 2),
    ("${kw:deep.list.-1.id}", 2),
    ("${out:fetch.body.0.id}", 7),
    ("${out:fetch}", SCOPE.outputs["fetch"]),
    ("${out:count-all.rows}", 3),
    ("${steps.fetch.output.body}", [{"id": 7}, {"id": 8}]),
    ("${steps.fetch.output.output}", "inner"),
    ("${steps.fetch.status}", 200),
    ("${steps:fetch.status}", 200),
    ("${previous_step.rows}", 3),
    ("${previous_step}", {"rows": 3}),
    ("${ctx:run_id}", "R"),
    ("${ctx.attempt}", 2),
    ("${ctx:scheduled_for}", None),
    ("${ctx:dry_run}", False),
    ("${run.id} ${job.id} ${job.name} ${step.name}", "R sync sync copy"),
    ("${run.started_at}", "2026-03-15T01:00:00Z"),
    ("${state.cursor.page}", 4),
    ("${state.last_sync:-2024-01-01}", "2024-01-01"),
    ("${state.unknown:-2024-01-01T00:00:00Z}", "2024-01-01T00:00:00Z"),
    ("${NOPE:-default}", "default"),
    ("${EMPTY:-default}", "default"),
    ("${EMPTY}", ""),
    ("${NOPE:-}", ""),
    ("${TOKEN:-default}", "s3cret"),
    ("${out:later.x:-0}", "0"),
    ("${kw:rows:-1}", 5),
    # Once, and never again.
    ("${TRAP}", "${env:TOKEN}"),
    ("$${env:TOKEN}", "${env:TOKEN}"),
    ("$${a} ${kw:rows} $${b}", "${a} 5 ${b}"),
    ("$1 $x $$ {{7*7}} %(x)s {0.__class__}", "$1 $x $$ {{7*7}} %(x)s {0.__class__}"),
    # Dates, in the zone of the job.
    ("${today} ${yesterday}", "2026-03-15 2026-03-14"),
    ("${week.monday} ${week.sunday}", "2026-03-09 2026-03-15"),
    ("${month.first} ${month.last}", "2026-03-01 2026-03-31"),
    ("${month.previous} ${month.current} ${year}", "2026-02 2026-03 2026"),
    ("${now}", "2026-03-15T02:00:00+01:00"),
]


@pytest.mark.parametrize(("text", "value"), FILLED)
def test_tokens_are_filled(text, value):
    filled = template.render(text, SCOPE)
    assert filled == value
    assert type(filled) is type(value)
    template.check(text)


def test_tables_and_lists_are_walked():
    raw = {"a": ["${kw:deep}", 1, None], "b": {"c": "x${kw:rows}"}}
    assert template.render(raw, SCOPE) == {
        "a": [{"list": [1, {"id": 2}]}, 1, None],
        "b": {"c": "x5"},
    }


@pytest.mark.parametrize(
    ("month", "previous", "last"),
    [(1, "2025-12", "2026-01-31"), (2, "2026-01", "2026-02-28"), (12, "2026-11", "2026-12-31")],
)
def test_months(month, previous, last):
    scope = Scope(now=datetime(2026, month, 28, tzinfo=ZoneInfo("UTC")))
    assert template.render("${month.previous} ${month.last}", scope) == f"{previous} {last}"


MISSING = [
    ("${env:NOPE}", "the project's .env has no variable `NOPE`"),
    ("${NOPE}", "the project's .env has no variable `NOPE`"),
    ("${secret:nope}", "this connector has no secret `nope`"),
    ("${kw:target}", "there is no parameter `target`; there is `repo`, `rows`"),
    ("${kw:rows.x}", "there is no parameter `rows.x`; it is int, not a table"),
    ("${kw:deep.list.9}", "`deep.list` is a list of 2, counted from 0"),
    ("${kw:deep.list.first}", "`deep.list` is a list of 2"),
    ("${out:nope.x}", "no earlier step with an output is named `nope`; there is `fetch`"),
    ("${out:fetch.nope}", "the output of step `fetch` has no `nope`; there is `status`"),
    ("${previous_step.nope}", "the previous step's output has no `nope`"),
    ("${state.nope}", "there is no state `nope`"),
]


@pytest.mark.parametrize(("text", "why"), MISSING)
def test_what_is_not_there_is_named(text, why):
    template.check(text)
    with pytest.raises(TemplateError) as refused:
        template.render({"body": ["ok", f"x {text}"]}, SCOPE)
    assert why in refused.value.message
    assert f"`{text}`" in refused.value.message
    assert "(in `body.1`)" in refused.value.message
    assert (refused.value.token, refused.value.path) == (text, ("body", "1"))
    assert refused.value.code is Code.INVALID


def test_secrets_are_not_listed_in_an_error():
    with pytest.raises(TemplateError) as refused:
        template.render("${env:NOPE}", SCOPE)
    assert "TOKEN" not in refused.value.message


def test_there_is_nothing_before_the_first_step():
    with pytest.raises(TemplateError, match="first step"):
        template.render("${previous_step.x}", Scope())


MALFORMED = [
    ("${env:${env:X}}", "may not hold another token"),
    ("${a ${b}}", "may not hold another token"),
    ("${", "closing `}` is missing"),
    ("x ${env:TOKEN", "closing `}` is missing"),
    ("${}", "names nothing"),
    ("${ }", "names nothing"),
    ("${foo:bar}", "unknown token"),
    ("${foo.bar}", "unknown token"),
    ("${month.next}", "unknown token"),
    ("${session.user}", "unknown token"),
    ("${7*7}", "unknown token"),
    ("${kw:}", "part of its path is empty"),
    ("${kw:a..b}", "part of its path is empty"),
    ("${env}", "write `${env:NAME}`"),
    ("${env:A.B}", "write `${env:NAME}`"),
    ("${env:A-B}", "write `${env:NAME}`"),
    ("${secret}", "write `${secret:NAME}`"),
    ("${steps}", "write `${steps.STEP.PATH}`"),
    ("${out}", "write `${out:STEP.PATH}`"),
    ("${ctx:nope}", "`ctx` has `run_id`"),
    ("${run.nope}", "`run` has `id`"),
    ("${job}", "`job` has"),
]


@pytest.mark.parametrize(("text", "why"), MALFORMED)
def test_what_means_nothing_is_refused_at_load(text, why):
    with pytest.raises(TemplateError) as refused:
        template.check({"headers": {"a": text}})
    assert why in refused.value.message
    assert refused.value.path == ("headers", "a")
    with pytest.raises(TemplateError):
        template.render(text, SCOPE)


def test_every_problem_is_found_and_keys_may_not_hold_tokens():
    found = template.problems({"a": "${foo:x}", "b": ["${}"], "${bar:y}": 1})
    assert [problem.path for problem in found] == [(), ("a",), ("b", "0")]


def test_ten_thousand_levels_are_one_problem():
    value = "x"
    for _ in range(10_000):
        value = [value]
    assert "deeper than 64" in template.problems(value)[0].message
    with pytest.raises(TemplateError, match="deeper"):
        template.render(value, SCOPE)


def test_a_big_value_passes_whole_and_not_inside_text():
    scope = Scope(kw={"big": "x" * 100_000})
    assert len(template.render("${kw:big}", scope)) == 100_000
    with pytest.raises(TemplateError, match="64 KB"):
        template.render("a ${kw:big}", scope)
    with pytest.raises(TemplateError, match="64 KB"):
        template.render("${kw:half} ${kw:half}", Scope(kw={"half": "x" * 40_000}))


def test_ten_thousand_tokens_in_one_text():
    assert template.render("${kw:a}" * 10_000, Scope(kw={"a": "b"})) == "b" * 10_000


def test_references_tell_which_secrets_a_value_uses():
    value = {"a": "${env:X} ${Y}", "b": ["${kw:z}", "${out:fetch.body.id}"]}
    assert template.references(value, "env") == {("X",), ("Y",)}
    assert template.references(value, "out") == {("fetch", "body", "id")}
    assert template.has_tokens(value)
    assert not template.has_tokens({"a": ["$x", 1]})


def test_a_token_knows_its_place():
    [first, second] = template.tokens("a ${kw:x} $${no} ${y:-z}")
    assert (first.text, first.start, first.namespace, first.path) == ("${kw:x}", 2, "kw", ("x",))
    assert (second.namespace, second.path, second.default) == ("env", ("y",), "z")


def test_a_scope_shows_no_secret():
    assert "s3cret" not in repr(SCOPE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.text("${}:-a.", max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_escaped_values_come_back_as_they_were(value):
    assert template.render(template.escape(value), SCOPE) == value


@settings(max_examples=60, deadline=None)
@given(json_values)
def test_a_value_put_in_whole_comes_out_whole(value):
    assert template.render("${kw:v}", Scope(kw={"v": value})) == value


@settings(max_examples=100, deadline=None)
@given(st.text("$${}:-.envkw0 ", max_size=30))
def test_any_text_is_filled_or_refused(text):
    try:
        template.check(text)
    except TemplateError:
        return
