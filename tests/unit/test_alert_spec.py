"""alerts.toml: which channels there are, and what is said of those that are wrong."""

import tomllib

import pytest

from nomaflow import alert_spec
from nomaflow.job.problems import Problem

GOOD = """
[channels.ops]
kind = "slack"
url = "${env:SLACK_WEBHOOK_URL}"
default = true
template = "${job_name} went wrong"

[channels.pager]
kind = "webhook"
url = "https://pager.example/hook"
headers = { Authorization = "Bearer ${env:PAGER_TOKEN}" }
"""


def read(text):
    return alert_spec.parse(tomllib.loads(text))


def test_channels_are_read_with_every_field():
    channels = read(GOOD)
    assert channels.problems == ()
    assert channels.default == "ops"
    assert channels.slack == "ops"
    pager = channels.by_name["pager"]
    assert (pager.kind, pager.default, pager.template) == ("webhook", False, None)
    assert pager.headers == {"Authorization": "Bearer ${env:PAGER_TOKEN}"}


def test_an_address_and_a_header_do_not_show_where_a_channel_is_printed():
    shown = repr(read(GOOD).by_name)
    assert "pager.example" not in shown
    assert "Bearer" not in shown


def test_the_only_channel_is_the_default_one_and_of_several_none():
    one = '[channels.a]\nkind = "webhook"\nurl = "https://a.example"\n'
    assert read(one).default == "a"
    assert read(one + '[channels.b]\nkind = "slack"\nurl = "https://b.example"\n').default is None
    assert read("").default is None


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ('kind = "email"', ("kind",), "`email` is not available in this version"),
        ('kind = "smoke"', ("kind",), "must be one of slack or webhook"),
        ('url = "ftp://a.example"', ("url",), "must be an http:// or https:// address"),
        ('url = "https://a.example/${kw:x}"', ("url",), "only ${env:NAME}"),
        ('url = "https://a.example/${nonsense:x}"', ("url",), "nonsense"),
        (
            'template = "${job_nam}"',
            ("template",),
            "`${job_nam}` is not known; there is `job_name`",
        ),
        ('headers = { "bad name" = "x" }', ("headers",), "not the name of a header"),
        ('colour = "red"', ("colour",), "there is no field `colour`"),
    ],
)
def test_a_wrong_channel_is_reported_with_its_place_and_the_others_work(line, path, words):
    fields = {"kind": 'kind = "slack"', "url": 'url = "https://a.example"'}
    fields[path[0]] = line
    channels = read(GOOD + "[channels.wrong]\n" + "\n".join(fields.values()))
    (problem,) = channels.problems
    assert problem.path == ("channels", "wrong", *path)
    assert words in problem.message
    assert set(channels.by_name) == {"ops", "pager"}


def test_required_fields_are_named():
    problems = read("[channels.a]\n").problems
    assert [p.path[-1] for p in problems] == ["kind", "url"]


def test_two_default_channels_and_tables_of_later_versions_are_problems():
    again = '[channels.b]\nkind = "slack"\nurl = "https://b.example"\ndefault = true\n'
    (problem,) = read(GOOD + again).problems
    assert problem == Problem(("channels", "b", "default"), "`ops` is the default channel already")
    messages = [p.message for p in read("[quiet_hours]\n[chanels.a]\n").problems]
    assert messages == [
        "`quiet_hours` is not available in this version; remove it",
        "unknown table `chanels`; alerts.toml holds [channels.NAME] and [[routes]]",
    ]
    assert read("channels = 3").problems[0].path == ("channels",)
    assert "cannot name a channel" in read('[channels."#x"]\n').problems[0].message


def test_routes_lead_to_channels():
    routes = """
        [[routes]]
        job = "etl-*"
        channel = "pager"
        [[routes]]
        tag = "team-data"
        channel = "ops"
        [[routes]]
        app = "reporting"
        channel = "pager"
        """
    channels = read(GOOD + routes)
    assert channels.problems == ()
    assert channels.routed("etl-permits", "_default", ()) == ("pager",)
    assert channels.routed("etl-permits", "reporting", ("team-data",)) == ("pager", "ops")
    assert channels.routed("nightly", "_default", ("other",)) == ()


@pytest.mark.parametrize(
    ("route", "path", "words"),
    [
        ('channel = "ops"', (), "a route names one of `job`, `tag` and `app`"),
        ('tag = "a"\njob = "b"\nchannel = "ops"', (), "a route names one of"),
        ('tag = "a"', ("channel",), "is missing"),
        ('tag = "a"\nchannel = "opps"', ("channel",), "there is no channel `opps`; it has `ops`"),
    ],
)
def test_a_wrong_route_is_reported_with_its_place(route, path, words):
    channels = read(GOOD + "[[routes]]\n" + route)
    (problem,) = channels.problems
    assert problem.path == ("routes", "0", *path)
    assert words in problem.message
    assert channels.routes == ()


def test_recipients_that_nothing_can_reach_are_told():
    channels = read(GOOD)
    told = alert_spec.unknown_recipients(("ops", "#team", "@ann", "a@b.c", "oops"), channels)
    assert [p.path for p in told] == [("recipients", "3"), ("recipients", "4")]
    assert "e-mail is not available" in told[0].message
    assert told[1].message == "there is no channel `oops` in alerts.toml; it has `ops`, `pager`"
    assert "no slack channel" in alert_spec.unreachable("#team", alert_spec.Channels())


def test_words_are_filled_in_once():
    words = {"job_name": "a ${error} b", "error": "boom"}
    assert alert_spec.fill("${job_name}: ${error} $${error} ${url}", words) == (
        "a ${error} b: boom ${error} "
    )
