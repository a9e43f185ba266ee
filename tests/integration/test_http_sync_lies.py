"""http_sync and APIs that contradict themselves, change meanwhile, or answer something else."""

import asyncio
import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from loopback import as_json
from paged_api import PagedApi, user
from syncing import BY_PAGE, WATERMARK, declared, job, place, rows, synced

from nomaflow.store import watermarks

BY_TWENTY = 'type = "page"\nsize = 20\ntotal = "total"'
NO_TOTAL = 'type = "page"\nsize = 100'


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with place(database_url, redis_url, tmp_path) as made:
        yield made


async def outcome(shop, api, **settings):
    await declared(shop, job(api, **settings))
    await shop.db.execute("TRUNCATE public.users")
    run, step = await synced(shop)
    return run["status"], step["error"]["message"] if step["error"] else None, await rows(shop)


async def test_an_api_that_gives_smaller_pages_than_asked_for_is_read_to_its_end(shop):
    """GitHub gives a hundred where five hundred are asked for, and says of no total."""
    for paginate in (
        NO_TOTAL,
        'type = "offset"\nsize = 100',
        'type = "page"\nsize = 100\nconcurrency = 3',
        'type = "offset"\nsize = 100\nconcurrency = 3',
    ):
        style = paginate.split('"')[1]
        async with PagedApi([user(n) for n in range(130)], most=50, style=style) as api:
            assert await outcome(shop, api, paginate=paginate) == ("succeeded", None, 130), paginate
            api.items = api.items[:30]
            assert await outcome(shop, api, paginate=paginate) == ("succeeded", None, 30), paginate


BEYOND = {
    "empty": None,
    "not found": lambda q: as_json({}, 404) if q["page"] != "1" else None,
    "invalid": lambda q: (
        as_json({"message": "page out of range"}, 422) if q["page"] != "1" else None
    ),
    "the same again": lambda _q: as_json({"data": [user(n) for n in range(30)]}),
}


@pytest.mark.parametrize("how", BEYOND)
async def test_one_short_page_is_the_whole_list_however_the_next_is_refused(shop, how):
    async with PagedApi([user(n) for n in range(30)]) as api:
        api.before = BEYOND[how] or api.before
        await declared(shop, job(api, paginate=NO_TOTAL, step="batch_size = 20"))
        run, step = await synced(shop)
    assert (run["status"], step["output"]["pages"], await rows(shop)) == ("succeeded", 1, 30)
    assert (step["progress"]["batch"], step["progress"]["last"]) == (2, True)
    assert api.pages == ["1", "2"]


async def test_an_api_that_breaks_after_a_short_page_fails_the_step(shop):
    broken = lambda q: as_json({}, 500) if q["page"] == "2" else None  # noqa: E731
    async with PagedApi([user(n) for n in range(30)], before=broken) as api:
        status, message, written = await outcome(shop, api, paginate=NO_TOTAL)
    assert (status, written) == ("failed", 30)
    assert message.startswith("page 2: GET ")


async def test_a_list_that_grows_or_shrinks_while_it_is_read(shop):
    async with PagedApi([user(n) for n in range(60)]) as api:

        def grows(query):
            if query["page"] == "3":
                api.items += [user(n) for n in range(60, 75)]

        api.before = grows
        assert await outcome(shop, api, paginate=BY_TWENTY) == ("succeeded", None, 75)
        api.items = api.items[:60]

        def shrinks(query):
            if query["page"] == "2":
                del api.items[45:]

        api.before = shrinks
        assert await outcome(shop, api, paginate=BY_TWENTY) == ("succeeded", None, 45)
        api.items = [user(n) for n in range(60)]

        def shrinks_below_what_was_read(query):
            if query["page"] == "3":
                del api.items[30:]

        api.before = shrinks_below_what_was_read
        assert await outcome(shop, api, paginate=BY_TWENTY) == ("succeeded", None, 40)


def always_more(new):
    def answer(query):
        first = int(query["page"]) * 100 if new else 0
        return as_json({"data": [user(first + n) for n in range(3)], "more": True})

    return answer


async def test_more_that_never_ends(shop):
    paginate = 'type = "page"\nsize = 3\nhas_more = "more"'
    async with PagedApi([], before=always_more(new=False)) as api:
        status, message, written = await outcome(shop, api, paginate=paginate)
    assert (status, written) == ("failed", 3)
    assert "page 2 holds the same items as an earlier page" in message
    assert message.endswith("; 3 rows of earlier batches stay written")
    async with PagedApi([], before=always_more(new=True)) as api:
        # Ever new items are no lie that could be told; the limits of the step end it.
        limited = await outcome(shop, api, paginate=paginate + "\nmax_pages = 7", rest=WATERMARK)
        assert limited == ("succeeded", None, 21)
        assert await watermarks.of_job(shop.db, "users") == {}
        in_time = await outcome(shop, api, paginate=paginate, step="timeout_seconds = 1")
        assert in_time[0] == "failed"
        assert "timeout" in in_time[1]


def in_the_middle(answer):
    return lambda query: answer if query["page"] == "2" else None


MIDDLES = {
    # what page 2 of 3 answers: what becomes of the sync
    "empty": (as_json({"data": [], "total": 250}), "and page 2 is empty after 100"),
    "items null": (as_json({"data": None, "total": 250}), "and page 2 is empty after 100"),
    "items missing": (as_json({"total": 250}), "page 2: `items` = `data` finds nothing in the"),
    "items a table": (as_json({"data": {"1": {}}, "total": 250}), "finds a table with `1`"),
    "total gone": (as_json({"data": [user(n) for n in range(100, 200)]}), None),
    "total text": (as_json({"data": [user(1)], "total": "many"}), "gives 'many', not a number"),
    "html": (
        (200, {"Content-Type": "text/html"}, b"<html><h1>Sign in</h1>"),
        "answered text/html, which is not JSON: <html><h1>Sign in</h1>",
    ),
    "html as json": (
        (200, {"Content-Type": "application/json"}, b"<html>"),
        "answered application/json, which is not JSON: <html>",
    ),
    "nothing": ((200, {"Content-Type": "application/json"}, b""), "is not JSON: the body is empty"),
    "a redirect": ((302, {"Location": "/login"}, b""), "a redirect; set follow_redirects = true"),
    "an error in 200": (
        as_json({"error": "quota"}),
        "finds nothing in the body, which is a table with `error`",
    ),
    "numbers as items": (
        as_json({"data": [1, 2], "total": 250}),
        "has no value for the key column `external_id`",
    ),
}


@pytest.mark.parametrize("what", MIDDLES)
async def test_a_page_in_the_middle_that_is_something_else(shop, what):
    answer, words = MIDDLES[what]
    async with PagedApi([user(n) for n in range(250)], before=in_the_middle(answer)) as api:
        status, message, written = await outcome(shop, api, rest=WATERMARK)
    if words is None:
        assert (status, written) == ("succeeded", 250)
        return
    assert (status, written) == ("failed", 100), message
    assert words in message
    assert "page 2" in message or words.startswith("and page 2")
    assert await watermarks.of_job(shop.db, "users") == {}


async def test_redirects_are_followed_when_asked_for_and_never_round(shop):
    moved = lambda q: (301, {"Location": f"/v2?{_text(q)}"}, b"") if "v" not in q else None  # noqa: E731

    def _text(query):
        return "&".join(f"{k}={v}" for k, v in {**query, "v": "2"}.items())

    request = "follow_redirects = true"
    async with PagedApi([user(n) for n in range(250)], before=moved) as api:
        assert await outcome(shop, api, request=request) == ("succeeded", None, 250)
    round_ = lambda _q: (302, {"Location": "/users?page=1"}, b"")  # noqa: E731
    async with PagedApi([], before=round_) as api:
        status, message, _ = await outcome(shop, api, request=request)
    assert (status, "redirected more than 5 times" in message) == ("failed", True)


async def test_a_gzip_bomb_is_stopped_at_max_bytes(shop):
    bomb = gzip.compress(b'{"data": [' + b" " * 200_000_000 + b"]}")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with PagedApi([], before=lambda _q: (200, headers, bomb)) as api:
        status, message, _ = await outcome(shop, api)
    assert (status, len(bomb) < 300_000) == ("failed", True)
    assert "page 1: GET" in message
    assert "larger than max_bytes = 10 000 000 bytes" in message


async def test_keys_that_come_on_two_pages_are_one_row_with_the_later_values(shop):
    people = [user(n) for n in range(100)] + [user(n, first_name="New") for n in range(50, 110)]
    async with PagedApi(people) as api:
        await declared(shop, job(api, paginate=BY_TWENTY, step="batch_size = 20"))
        run, step = await synced(shop)
    output = step["output"]
    assert (run["status"], await rows(shop)) == ("succeeded", 110)
    assert (output["records"], output["inserted"], output["updated"]) == (160, 110, 50)
    assert await rows(shop, "count(*) FILTER (WHERE name LIKE 'New%')") == 60


async def test_a_cursor_that_comes_back_is_noticed(shop):
    names = iter(["a", "b", "a"])

    def answer(query):
        number = len(api.asked)
        return as_json({"data": [user(number)], "next": next(names, "b")})

    paginate = 'type = "cursor"\nnext = "next"'
    async with PagedApi([], style="cursor", before=answer) as api:
        status, message, written = await outcome(shop, api, paginate=paginate)
    assert (status, written, len(api.asked)) == ("failed", 2, 3)
    assert "page 4: the API leads back; the API does not turn its pages" in message


async def test_retry_after_as_a_date_is_obeyed(shop):
    loop = asyncio.get_running_loop()
    told = []

    def busy(query):
        if query["page"] != "2":
            return None
        told.append(loop.time())
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return as_json({}, 429, Retry_After=at) if len(told) == 1 else None

    async with PagedApi([user(n) for n in range(250)], before=busy) as api:
        assert await outcome(shop, api) == ("succeeded", None, 250)
    assert told[1] - told[0] > 0.9  # a date has whole seconds


@pytest.mark.parametrize("what", ["86400", "a date", "nonsense", "-5"])
async def test_a_retry_after_that_is_too_long_or_none_ends_the_try(shop, what):
    day = datetime.now(UTC) + timedelta(days=1)
    value = format_datetime(day, usegmt=True) if what == "a date" else what
    busy = lambda q: as_json({}, 429, Retry_After=value) if q["page"] == "2" else None  # noqa: E731
    async with PagedApi([user(n) for n in range(250)], before=busy) as api:
        status, message, written = await outcome(shop, api, paginate=BY_PAGE)
    assert (status, written) == ("failed", 100)
    assert message.startswith("page 2: GET ")
    assert "answered 429" in message
