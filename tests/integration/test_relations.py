"""Jobs that call each other in a circle are out of force; functions that are missing are told."""

import asyncio

import pytest

from nomaflow.errors import Code, NomaflowError
from nomaflow.in_force import catalog
from nomaflow.store import jobs


def calls(name: str, *others: str) -> str:
    steps = [
        f"""
[[jobs.steps]]
name = "call-{other}"
type = "call_job"
job = "{other}"
"""
        for other in others
    ]
    plain = """
[[jobs.steps]]
name = "one"
type = "sql_query"
connector = "default"
query = "SELECT 1"
"""
    return f'\n[[jobs]]\nname = "{name}"\n' + plain + "".join(steps)


async def problems(shop) -> list[tuple[str, int, list[str], str]]:
    rows = await shop.db.fetch(
        "SELECT file, line, path, message FROM catalog_problems ORDER BY message"
    )
    return [tuple(row) for row in rows]


async def in_force(shop) -> set[str]:
    return {job.name for job in (await jobs.file_jobs(shop.db)).values()}


async def test_a_circle_of_files_is_refused_and_the_rest_loads(shop):
    (shop.root / "jobs").mkdir()
    (shop.root / "jobs" / "other.toml").write_text(calls("c", "a") + calls("on-the-way", "a"))
    await shop.declare(calls("a", "b") + calls("b", "c") + calls("self", "self") + calls("fine"))
    assert await in_force(shop) == {"fine", "on-the-way"}
    said = await problems(shop)
    assert [row[3] for row in said] == [
        "job `a`: jobs call each other in a circle: `a` → `b` → `c` → `a`",
        "job `b`: jobs call each other in a circle: `b` → `c` → `a` → `b`",
        "job `c`: jobs call each other in a circle: `c` → `a` → `b` → `c`",
        "job `self`: jobs call each other in a circle: `self` → `self`",
    ]
    assert said[0][:3] == ("jobs.toml", 2, ["jobs", "a", "steps", "1", "job"])
    assert said[2][0] == "jobs/other.toml"


async def test_the_last_good_revision_stays_and_a_mended_file_counts(shop):
    await shop.declare(calls("a", "b") + calls("b"))
    await shop.declare(calls("a", "b") + calls("b", "a"))
    assert await in_force(shop) == {"a", "b"}
    kept = (await jobs.find(shop.db, "b")).definition
    assert len(kept["steps"]) == 1
    assert len(await problems(shop)) == 2
    await shop.declare(calls("a") + calls("b", "a"))
    assert await problems(shop) == []
    assert len((await jobs.find(shop.db, "b")).definition["steps"]) == 2


def api_job(name: str, *others: str) -> dict:
    return {
        "name": name,
        "steps": [
            {"name": "one", "type": "sql_query", "connector": "default", "query": "SELECT 1"},
            *({"name": f"call-{o}", "type": "call_job", "job": o} for o in others),
        ],
    }


async def test_a_circle_through_the_api_is_refused_at_save(shop):
    await shop.declare(calls("filed", "made"))
    with pytest.raises(NomaflowError) as refused:
        await catalog.create(shop.db, shop.bell, api_job("made", "other", "filed"), by="user:a")
    assert (refused.value.code, refused.value.path) == (Code.CYCLE, ("steps", "2", "job"))
    assert refused.value.message.endswith("`made` → `filed` → `made`")
    assert await jobs.find(shop.db, "made") is None

    await catalog.create(shop.db, shop.bell, api_job("made"), by="user:a")
    with pytest.raises(NomaflowError, match="in a circle"):
        await catalog.update(shop.db, shop.bell, api_job("made", "filed"), by="user:a")
    assert (await jobs.find(shop.db, "made")).revision == 1


async def test_a_file_that_closes_a_circle_with_a_job_of_the_api_is_refused(shop):
    await shop.declare(calls("filed"))
    await catalog.create(shop.db, shop.bell, api_job("made", "filed"), by="user:a")
    await shop.declare(calls("filed", "made"))
    ((_, _, _, message),) = await problems(shop)
    assert message.endswith("`filed` → `made` → `filed`")
    assert (await jobs.find(shop.db, "filed")).revision == 1


CALLING = """
[[jobs]]
name = "pull"
[[jobs.steps]]
name = "there"
type = "python"
callable = "pull.sync:there"
[[jobs.steps]]
name = "absent"
type = "python"
callable = "pull.sync:absent"
[[jobs.steps]]
name = "later"
type = "python"
callable = "${kw:callable}"
"""


async def test_a_function_that_is_not_there_is_told_and_the_job_is_in_force(shop):
    (shop.root / "plugins" / "pull").mkdir()
    path = shop.root / "plugins" / "pull" / "sync.py"
    path.write_text("def there(ctx): ...")
    await shop.declare(CALLING)
    assert await in_force(shop) == {"pull"}
    assert await problems(shop) == [
        (
            "jobs.toml",
            2,
            ["jobs", "pull", "steps", "1", "callable"],
            (
                "job `pull`: step `absent`: `pull.sync:absent`: plugins/pull/sync.py has no "
                "function 'absent': it has there"
            ),
        )
    ]


async def test_a_transform_that_is_not_there_is_told_too(shop):
    await shop.declare(
        """
        [[jobs]]
        name = "copy"
        [[jobs.steps]]
        name = "copy"
        type = "sql_copy"
        source = { table = "a" }
        target = { table = "b" }
        transform = "rows:clean"
        """
    )
    ((_, _, path, message),) = await problems(shop)
    assert path == ["jobs", "copy", "steps", "0", "transform"]
    assert "`rows:clean`: there is neither rows.py" in message


async def test_a_called_job_that_is_not_there_is_told_and_the_job_is_in_force(shop):
    await catalog.create(shop.db, shop.bell, api_job("made"), by="user:a")
    await shop.declare(calls("a", "bb", "made") + calls("bbb"))
    assert await in_force(shop) == {"a", "bbb"}
    ((file, _, path, message),) = await problems(shop)
    assert (file, path) == ("jobs.toml", ["jobs", "a", "steps", "1", "job"])
    assert message == "job `a` calls `bb`, and there is no such job; did you mean `bbb`?"


async def test_an_edit_of_a_plugin_is_looked_at_again(shop):
    (shop.root / "plugins" / "pull").mkdir()
    path = shop.root / "plugins" / "pull" / "sync.py"
    path.write_text("def there(ctx): ...")
    await shop.declare(CALLING)
    watching = asyncio.create_task(catalog.watch(shop.db, shop.bell, shop.project))
    path.write_text("def there(ctx): ...\ndef absent(ctx): ...")
    async with asyncio.timeout(10):
        while await problems(shop):
            await asyncio.sleep(0.05)
    watching.cancel()
