"""The smaller recipes, whole, in one installation: W04 W06 W08 W09 W11 W12 W15."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from installation import uuid_of
from recipes import EXAMPLES, load

RECIPES = (
    "row-count-assertion",
    "conditional-cleanup",
    "manual-one-off",
    "file-watcher",
    "queue-pair",
    "incremental-pull",
    "twenty-tables",
)
QUICK = (("base_seconds = 60", "base_seconds = 0.1"), ("base_seconds = 30", "base_seconds = 0.1"))


@pytest.fixture(scope="module")
def slack():
    stub = load("nightly-sync", "slack_stub.py").SlackStub(tell=lambda _line: None)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def items():
    stub = load("queue-pair", "items_stub.py").ItemsStub(count=95)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def project(folder: Path) -> Path:
    """Every recipe in one project; none of their clocks fires while a test looks."""
    made = folder / "recipes"
    (made / "jobs").mkdir(parents=True)
    for name in RECIPES:
        text = (EXAMPLES / name / "jobs.toml").read_text()
        for seconds, fewer in QUICK:
            text = text.replace(seconds, fewer)
        lines = [line for line in text.splitlines() if not line.startswith("schedule = ")]
        (made / "jobs" / f"{name}.toml").write_text("\n".join(lines))
        if (EXAMPLES / name / "plugins").exists():
            shutil.copytree(EXAMPLES / name / "plugins", made / "plugins", dirs_exist_ok=True)
    shutil.copy(EXAMPLES / "row-count-assertion" / "connectors.toml", made)
    for place in ("inbox", "archive"):
        (made / place).mkdir()
        (made / place).chmod(0o777)  # the user of python steps moves files there
    return made


@pytest.fixture(scope="module")
def up(start, project, make_database, slack, items):
    installation = start(project)
    shop = make_database(installation, "shop")
    (project / ".env").write_text(
        f"OPS_DB_URL={shop}\nREPORTING_DB_URL={shop}\nITEMS_API_URL={items.url}\n"
        f"SLACK_WEBHOOK_URL={slack.url('/success')}\n"
    )
    return installation


async def ran(up, job, status="SUCCEEDED", **wishes):
    run = await up.ended(await up.trigger(job, **wishes))
    assert run["status"] == status, run
    return run


def step(run, name):
    return next(step for step in run["steps"] if step["name"] == name)


async def test_no_recipe_has_a_problem(up):
    assert (await up.ask("{ catalogProblems { file message } }"))["catalogProblems"] == []


async def test_a_source_that_lost_its_rows_stops_before_the_copies(up, slack):
    run = await ran(up, "reporting-guarded-sync")
    checked = step(run, "assert-row-counts")["output"]
    assert (checked["source_rows"], checked["target_rows"]) == (1000, 990)
    assert len(slack.calls) == 1
    async with up.database("shop") as shop:
        await shop.execute("DELETE FROM public.customers WHERE id > 400")
        run = await ran(up, "reporting-guarded-sync", "FAILED")
        assert await shop.fetchval("SELECT count(*) FROM reporting.customers") == 1000
    failed, copied, told = run["steps"]
    assert failed["error"]["message"] == "row-count delta 60.0% > threshold 50.0%"
    assert len(failed["attempts"]) == 1
    assert copied["status"] == told["status"] == "SKIPPED"
    assert copied["reason"] == "skipped: earlier step failed"
    assert len(slack.calls) == 1


async def test_a_cleanup_counts_then_deletes_then_finds_too_little(up):
    await ran(up, "log-cleanup-tables")
    counted = "SELECT count(*) FROM public.app_log"
    audit = "SELECT candidates, deleted, dry_run FROM public.cleanup_audit WHERE run_id = $1"
    async with up.database() as database:
        rehearsed = await ran(up, "daily-log-cleanup", dryRun=True)
        assert step(rehearsed, "delete")["output"]["reason"] == "dry_run"
        assert step(rehearsed, "audit")["output"]["dry_run"] is True
        assert await database.fetchval("SELECT count(*) FROM public.cleanup_audit") == 0

        dry = await ran(up, "daily-log-cleanup", params={"dry_run": True})
        skipped = {"deleted": 0, "skipped": True, "reason": "dry_run"}
        assert step(dry, "delete")["output"] == skipped
        assert await database.fetchval(counted) == 12_355
        assert tuple(await database.fetchrow(audit, uuid(dry))) == (12_345, 0, True)

        real = await ran(up, "daily-log-cleanup")
        assert step(real, "delete")["output"]["deleted"] == 12_345
        assert await database.fetchval(counted) == 10
        assert tuple(await database.fetchrow(audit, uuid(real))) == (12_345, 12_345, False)
        assert int(real["rowsAffected"]) == 12_346

        idle = await ran(up, "daily-log-cleanup")
        assert [s["status"] for s in idle["steps"]] == ["SUCCEEDED", "SKIPPED", "SKIPPED"]
        assert step(idle, "decide")["output"]["act"] is False


def uuid(run):
    return uuid_of(run["id"])


async def test_a_manual_job_shows_what_was_asked_for(up):
    run = await ran(up, "rebuild-search-index", params={"day": "2026-05-01"})
    assert run["overrides"] == {"params": {"day": "2026-05-01"}}
    assert run["params"] == {"day": "2026-05-01", "full": False}
    assert step(run, "rebuild")["output"] == {"day": "2026-05-01", "full": False, "parts": 3}
    assert [
        line["message"] for line in run["logs"]["nodes"] if line["message"].startswith("words")
    ] == ["words of 2026-05-01"]
    (refused,) = await up.refused("rebuild-search-index", params={"full": "perhaps"})
    assert refused["path"][-1] == "full"
    job = await up.ask('{ job(name: "rebuild-search-index") { nextFireAt params } }')
    assert job["job"] == {"nextFireAt": None, "params": {"day": "${yesterday}", "full": False}}


async def test_files_are_loaded_once_and_moved(up, project):
    inbox, archive = project / "inbox", project / "archive"
    (inbox / "a.csv").write_text("device,value\nd1,1.5\nd2,2\n")
    (inbox / "b.csv").write_text("device,value\nd3,3\n")
    (inbox / "ignored.tmp").write_text("half written")
    wishes = {"params": {"inbox": str(inbox), "archive": str(archive)}}
    rehearsed = await ran(up, "inbox-watcher", dryRun=True, **wishes)
    assert step(rehearsed, "load")["output"] == {"files": [], "rows_affected": 0}
    run = await ran(up, "inbox-watcher", **wishes)
    assert step(run, "load")["output"] == {"files": ["a.csv", "b.csv"], "rows_affected": 3}
    assert sorted(path.name for path in archive.iterdir()) == ["a.csv", "b.csv"]
    assert [path.name for path in inbox.iterdir()] == ["ignored.tmp"]

    idle = await ran(up, "inbox-watcher", **wishes)
    assert step(idle, "load")["output"] == {"files": [], "rows_affected": 0}
    # As after a death between the commit and the move: nothing comes twice.
    (archive / "a.csv").rename(inbox / "a.csv")
    again = await ran(up, "inbox-watcher", **wishes)
    assert step(again, "load")["output"] == {"files": ["a.csv"], "rows_affected": 0}
    async with up.database() as database:
        assert await database.fetchval("SELECT count(*) FROM public.measurements") == 3


async def test_a_queue_is_drained_by_several_and_nothing_twice(up, items):
    await ran(up, "pages-tables")
    listed = await ran(up, "pages-list")
    assert step(listed, "list")["output"] == {"pages": 10, "new": 10}
    assert step(await ran(up, "pages-list"), "list")["output"] == {"pages": 10, "new": 0}
    items.asked.clear()
    started = await asyncio.gather(
        *(up.trigger("pages-fetch", params={"most": 4}) for _ in range(4))
    )
    runs = await up.all_ended(started)
    assert {run["status"] for run in runs} == {"SUCCEEDED"}
    fetched = [page for run in runs for page in step(run, "fetch")["output"]["pages"]]
    assert sorted(fetched) == list(range(1, 11))
    assert sorted(int(query["page"]) for query in items.asked) == list(range(1, 11))
    async with up.database() as database:
        assert await database.fetchval("SELECT count(*) FROM public.items") == 95
    assert step(await ran(up, "pages-fetch"), "fetch")["output"] == {"pages": []}


async def test_the_second_pull_asks_for_what_changed_since_the_first(up, items):
    await ran(up, "changes-tables")
    items.asked.clear()
    first = await ran(up, "changes-hourly")
    assert step(first, "pull")["output"]["items"] == 95
    async with up.database() as database:
        kept = await database.fetchval("SELECT last_sync FROM public.sync_state")
    second = await ran(up, "changes-hourly")
    assert step(second, "pull")["output"]["items"] == 0
    since = kept.isoformat(timespec="seconds").replace("+00:00", "Z")
    assert [query["since"] for query in items.asked] == ["2000-01-01T00:00:00Z", since]
    items.items[0]["updated_at"] = "2999-01-01T00:00:00Z"
    assert step(await ran(up, "changes-hourly"), "pull")["output"]["items"] == 1


async def test_twenty_tables_are_twenty_one_rows(up, slack):
    told = len(slack.calls)
    run = await ran(up, "twenty-tables")
    copies = [f"copy-t{n:02}" for n in range(1, 21)]
    assert [s["name"] for s in run["steps"]] == [*copies, "notify-slack"]
    assert {s["status"] for s in run["steps"]} == {"SUCCEEDED"}
    assert [s["output"]["target_rows"] for s in run["steps"][:-1]] == [n * 10 for n in range(1, 21)]
    assert json.dumps(slack.calls[told:]).count("200 rows in the last one") == 1
    async with up.database("shop") as shop:
        assert await shop.fetchval("SELECT count(*) FROM mirror.t20") == 200
