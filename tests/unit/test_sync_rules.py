"""The pure rules of http_sync: settings, pages, links, the largest value, expressions in bulk."""

import random
from datetime import UTC, datetime
from uuid import UUID

import pytest

from nomaflow.errors import StepError
from nomaflow.language import expression
from nomaflow.steps import registry
from nomaflow.steps.syncing import closures, links
from nomaflow.steps.syncing.answers import Reading
from nomaflow.steps.syncing.largest import Largest
from nomaflow.steps.syncing.paging import LyingApiError, Page, Paging, Place
from nomaflow.steps.syncing.settings import Paginate
from nomaflow.steps.syncing.sync_log import sync_id
from nomaflow.steps.syncing.tally import Course, Tally
from nomaflow.steps.syncing.writing import Written

STEP = {
    "request": {"url": "https://api.example.com/users"},
    "items": "data",
    "paginate": {"type": "page", "size": 100, "total": "total"},
    "map": {"id": "id"},
    "target": {"table": "users", "key": ["id"]},
}


def problems(**changes):
    return [words for _, words in registry.problems("http_sync", {**STEP, **changes})]


def test_a_whole_step_is_right():
    assert problems() == []
    assert problems(request={"url": "${env:URL}", "query": {"since": "${state.x:-1}"}}) == []
    assert problems(paginate={"type": "page", "size": "${kw:size}"}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"request": {"url": "https://x/?page=1"}}, "parameter `page` belongs to the pages"),
        ({"request": {"url": "https://x", "query": {"limit": 5}}}, "parameter `limit` belongs"),
        (
            {"paginate": {"type": "page", "size": 5, "page_param": "n", "size_param": "n"}},
            "`n` cannot be two query parameters at once",
        ),
        ({"paginate": {"type": "cursor"}}, "`cursor` needs `next`"),
        ({"paginate": {"type": "page", "next": "x"}}, "`next` belongs to the types cursor"),
        ({"paginate": {"type": "cursor", "next": "x", "offset_param": "o"}}, "belongs to the type"),
        ({"paginate": {"type": "cursor", "next": "x", "concurrency": 2}}, "needs the type page or"),
        ({"paginate": {"type": "offset", "concurrency": 2}}, "`concurrency` with offsets needs"),
        ({"paginate": {"type": "pages"}}, "'page'"),
        ({"map": {"id": "lower("}}, "expression `lower(`: lower() takes 1 argument, not 0"),
        ({"map": {"id": "${kw:x}"}}, "substitutions are not allowed in an expression"),
        ({"items": "data[?"}, "(column"),
        ({"map": {}}, "at least 1"),
        ({"target": {"table": "users", "key": ["email"]}}, "the key column `email` is not in the"),
        ({"target": {"connector": "default"}}, "either `table` or `query`"),
        ({"target": {"query": "q", "key": ["id"]}}, "`key` and `schema` go with `table`"),
        ({"watermark": {"name": "x", "value": "max:at"}}, "column `at` is not in the map"),
        ({"watermark": {"name": "x", "value": "yesterday"}}, "max:<column>"),
        ({"watermark": {"name": "x y"}}, "letters, digits"),
        ({"on_error": "ignore"}, "'stop' or 'continue'"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"pages": 3}, "there is no such field"),
    ],
)
def test_what_does_not_fit_is_said_when_the_job_is_declared(changes, words):
    assert any(words in problem for problem in problems(**changes)), problems(**changes)


def test_going_on_after_a_crash_is_the_default_where_it_is_harmless():
    kind = registry.step_type("http_sync")
    post = {"url": "https://x", "method": "post"}
    for changes, default in (
        ({}, "retry"),
        ({"target": {"table": "users"}}, "fail"),
        ({"request": post}, "fail"),
        ({"target": "${kw:target}"}, "fail"),
        ({"request": "${kw:request}"}, "fail"),
    ):
        config = {**STEP, **changes}
        if "${" not in str(changes):
            assert kind.model_validate(config).interrupt_default() == default
        assert kind.model_construct(**config).interrupt_default() == default


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://x/?page=2>; rel="next", <https://x/?page=5>; rel="last"', "https://x/?page=2"),
        ('<https://x/?a=1,2>; title="a, b; rel=\\"next\\""; rel=prev, </n>; rel="up next"', "/n"),
        ("<x>;rel=next", "x"),
        ('<x>; rel="first"; rel="next"', None),
        ('<x>; rel="nextish"', None),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_the_next_link_of_a_header(header, found):
    assert links.next_of(header) == found


def paging(**settings):
    return Paging(Paginate(**{"type": "page", "size": 10, **settings}))


def page(number, count, *, at=None, **facts):
    items = [f"{number}.{n}" for n in range(count)]
    return Page(Place(number, number if at is None else at), items, **facts)


def test_strange_items_are_told_apart_all_the_same():
    deep = ["x"]
    for _ in range(400):
        deep = [deep]
    course = paging(size=1)
    assert course.after(Page(Place(1, 1), deep), 1) == Place(2, 2)
    assert course.after(Page(Place(2, 2), ["\ud800"]), 2) == Place(3, 3)
    with pytest.raises(LyingApiError, match="same items"):
        course.after(Page(Place(3, 3), ["\ud800"]), 3)


def test_a_short_or_empty_page_is_the_last():
    course = paging()
    assert course.after(page(1, 10), 10) == Place(2, 2)
    assert course.after(page(2, 9), 19) is None
    assert paging().after(page(1, 0), 0) is None
    assert paging(size=None).after(page(1, 3), 3) == Place(2, 2)
    assert paging(size=None).after(page(1, 0), 0) is None


def test_a_server_that_gives_less_than_asked_for_is_read_to_its_total():
    course = paging(size=100)
    assert course.after(page(1, 50, total=120), 50) == Place(2, 2)
    assert course.left(page(1, 50, total=120), 50) == 2
    assert course.after(page(2, 50, total=120), 100) == Place(3, 3)
    assert course.after(page(3, 20, total=120), 120) is None


def test_a_first_page_is_no_measure_of_itself():
    """Many an API gives fewer items than asked for: its own pages tell what a whole one is."""
    course = paging(size=100)
    first = page(1, 50)
    assert course.doubts(first)
    assert course.after(first, 50) == Place(2, 2)
    assert course.after(page(2, 50), 100) == Place(3, 3)
    assert course.after(page(3, 20), 120) is None
    assert course.guess(Place(3, 3)) == Place(4, 4)
    told = (page(1, 50, total=50), page(1, 50, has_more=False), page(1, 100), page(1, 0))
    assert not any(paging(size=100).doubts(one) for one in told)
    assert not paging(size=None).doubts(first)
    assert Paging.repeats(page(1, 3), page(1, 3))
    assert not Paging.repeats(page(1, 3), page(2, 3))


def test_a_page_is_left_out_and_the_total_is_reckoned():
    course = paging()
    assert not course.can_skip(Place(1, 1))
    assert not course.can_skip(Place(2, 2))  # nothing is known of this list yet
    course.after(course.whole(page(1, 10, total=25)), 10)
    assert course.can_skip(Place(2, 2))
    assert course.skip(Place(2, 2), 10) == (Place(3, 3), 10)
    assert course.skip(Place(3, 3), 20) == (None, 5)
    assert paging().after(page(3, 4, total=25), 24) == Place(4, 4)
    course = paging()
    course.fullest, course.skipped = 10, True
    assert course.after(page(3, 7, total=25), 27) is None  # reckoned, so no lie
    offsets = paging(type="offset")
    offsets.after(page(1, 7, at=0, total=99), 7)
    assert offsets.skip(Place(2, 7), 7) == (Place(3, 14), 7)
    assert not paging(type="cursor", next="n").can_skip(Place(2))


def test_an_offset_moves_by_what_came_or_as_it_is_told():
    by_items = paging(type="offset", total="t")
    assert by_items.after(page(1, 7, at=0, total=20), 7) == Place(2, 7)
    told = paging(type="offset", offset_size=1)
    assert told.after(page(1, 10, at=0), 10) == Place(2, 1)


def test_a_list_that_shrinks_or_grows_meanwhile_is_no_lie():
    course = paging()
    course.after(page(1, 10, total=30), 10)
    assert course.after(page(2, 5, total=15), 15) is None
    assert paging().after(page(3, 0, total=15), 20) is None


def test_a_list_too_long_to_be_true():
    with pytest.raises(LyingApiError, match="more than 100,000 pages"):
        paging().after(page(100_000, 10), 10**6)


@pytest.mark.parametrize(
    ("body", "settings", "items", "words"),
    [
        ([1], {}, None, None),
        ({"data": [1]}, {}, "data", None),
        ({"data": None}, {}, "data", None),
        ({"a": {"data": None}}, {}, "a.data", None),
        ({"total": 0}, {"total": "total"}, "data", None),
        ({"data": [1], "total": "12"}, {"total": "total"}, "data", None),
        ({"total": 5}, {"total": "total"}, "data", "`items` = `data` finds nothing in the body"),
        ({"data": {"a": 1}}, {}, "data", "finds a table with `a`, not a list"),
        ({"data": [1]}, {}, None, "the body is a table with `data`, not a list"),
        ({"data": [1]}, {"total": "total"}, "data", "`total` = `total` gives None, not a number"),
        ({"data": [], "total": -1}, {"total": "total"}, "data", "not a number of items"),
        ({"data": [], "total": True}, {"total": "total"}, "data", "not a number of items"),
        ({"data": [], "n": [1]}, {"type": "cursor", "next": "n"}, "data", "neither text nor a"),
        ({"data": [], "n": 5}, {"has_more": "lower(n)"}, "data", "`has_more`: expression"),
    ],
)
def test_an_answer_is_taken_apart(body, settings, items, words):
    reading = Reading(items, Paginate(**{"type": "page", **settings}))
    if words is None:
        assert isinstance(reading.page(Place(1, 1), body, None).items, list)
        return
    with pytest.raises(StepError) as caught:
        reading.page(Place(1, 1), body, None)
    assert words in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("token", [None, "", False])
def test_no_token_is_the_end(token):
    reading = Reading("d", Paginate(type="cursor", next="n"))
    assert reading.page(Place(1), {"d": [1], "n": token}, None).next is None
    assert reading.page(Place(1), {"d": [1], "n": 0}, None).next == "0"


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ([3, 10, 9], "10"),
        (["9", "10.5", None], "10.5"),
        (["2026-01-02T00:00:00+02:00", "2026-01-01T23:00:00Z"], "2026-01-01T23:00:00Z"),
        (["2026-01-02", "2026-01-03"], "2026-01-03"),
        (["b", "a", True], "b"),
        ([None], None),
    ],
)
def test_the_largest_value(values, largest):
    for _ in range(3):
        random.shuffle(values)
        seen = Largest()
        seen.see(values)
        assert seen.value == largest


def test_batches_are_counted_as_seed_003_shows_them():
    told = Course.of(0, 100, 10, seen=100, total=250, last=False)
    assert told.progress(5) == {"batch": 5, "batches": 25, "percent": 20.0, "last": False}
    odd = Course.of(0, 100, 30, seen=100, total=250, last=False)
    assert odd.batches == 4 + 4 + 2
    end = Course.of(20, 50, 10, seen=250, total=None, last=True)
    assert end.progress(25) == {"batch": 25, "batches": 25, "percent": 100.0, "last": True}
    unknown = Course.of(0, 100, 10, seen=100, total=None, last=False)
    assert unknown.progress(5) == {"batch": 5, "batches": None, "percent": None, "last": False}
    assert Course.of(0, 0, 10, seen=0, total=0, last=True).batches == 0


def test_a_tally_goes_on_from_what_was_kept_of_the_same_sync():
    tally = Tally("a", Largest())
    tally.wrote(10, Written(7, 3))
    tally.lost(1, [1, 2], "no")
    tally.pages, tally.follows = 1, Place(2, "c")
    tally.largest.see([4])
    again = Tally("a", Largest())
    assert again.go_on_from(tally.checkpoint())
    assert (again.records, again.inserted, again.updated, again.failed) == (12, 7, 3, 1)
    assert (again.follows, again.largest.value, again.batches) == (Place(2, "c"), "4", 2)
    assert not Tally("b", Largest()).go_on_from(tally.checkpoint())
    assert not Tally("a", Largest()).go_on_from(None)


def test_sync_ids_fit_a_bigint_and_follow_time():
    early, late = UUID("0190a6f0-0000-7000-8000-000000000001"), UUID(int=2**127 - 1)
    assert 0 < sync_id(early, 0) < sync_id(early, 1) < sync_id(late, 0) < 2**63


EXPRESSIONS = """
id; address.city; address.city.name; tags[0]; tags[-1]; tags[1:]; tags[*].name; tags[].name
lower(email); upper(email); trim(email); lower(n); concat(first, ' ', last); concat(first, n, null)
join(' ', [first, last]); join(first, tags); join('-', [first, nothing]); join(n, [first])
active && 'active' || 'inactive'; !active; n == `0`; n != `1`; active == `true`; n == active
n > `2` && 'big'; email == 'A@x'; email != first; tags == `[]`; `null` == nothing
json({source: 'x', id: id}); json(tags); json(nothing); string(n); int(n); length(tags)
{a: id, b: {c: n}}; [id, n, nothing]; @; @.id; id | @; now(); date(n); param('p'); param('q')
tags[?name == 'a'].name | [0]; sort_by(tags, &name); map(&name, tags); if(active, first, last)
add(n, `1`); div(n, `0`); round(n); contains(tags, 'a'); starts_with(email, 'a'); `0` || id
max_by(tags, &name); keys(address); not_null(nothing, id); type(n); to_number(first); abs(n)
"""
VALUES = [None, True, False, 0, 1, 1.5, "", "A@x", " b ", [], ["a", "b"], [{"name": "a"}, {}], {}]


def item(dice):
    names = ("id", "email", "n", "first", "last", "active", "tags", "address")
    made = {name: dice.choice(VALUES) for name in names if dice.random() < 0.8}
    if dice.random() < 0.5:
        made["address"] = {"city": dice.choice(VALUES)}
    return made


def answer(apply, value):
    try:
        return repr(apply(value))
    except expression.ExpressionError as error:
        return f"refused: {error.message}"


@pytest.mark.parametrize(
    "text", [t.strip() for t in EXPRESSIONS.replace("\n", ";").split(";") if t]
)
def test_in_bulk_an_expression_answers_what_it_answers_alone(text):
    dice, now = random.Random(7), datetime(2026, 1, 1, tzinfo=UTC)
    compiled = expression.compile(text)
    alone = compiled.bind(params={"p": 5}, now=now)
    bulk = closures.of(compiled, {"p": 5}, now)
    for value in [*VALUES, *(item(dice) for _ in range(60))]:
        assert answer(bulk, value) == answer(alone, value)
