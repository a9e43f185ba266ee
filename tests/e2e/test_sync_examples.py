"""Seed 003 and its two variants, through the three programs, against a directory of users."""

import json
import re
import time

import pytest
from recipes import EXAMPLES, load

TOKEN = "usr_s3cret/t0ken+of~an&example=="
SYNC = """query ($id: ID!) { run(id: $id) {
  status reason rowsAffected sync { records pages batches inserted updated errorCount errors
    durationSeconds completedAt }
  failedBatches { totalCount nodes { page batch items status attempts error } }
  events(first: 100) { nodes { ... on StepProgressed { progress { batch batches percent last } } } }
  steps { name summary progress { done total unit batch batches percent last } } } }"""
STATE = """query ($job: String!) { job(name: $job) { watermarks { name value run { id } }
  lastSuccess { id } failedBatches(status: "done") { totalCount } } }"""


@pytest.fixture(scope="module")
def users():
    module = load("users-sync", "users_stub.py")
    stub = module.UsersStub(TOKEN)
    stub.user = module.user
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def up(start, example, users):
    """The three recipes in one project: one installation for all of them."""
    project = example("users-sync")
    (project / "jobs").mkdir()
    (project / "jobs.toml").rename(project / "jobs" / "users-sync.toml")
    for name in ("parallel-pages", "incremental"):
        text = (EXAMPLES / name / "jobs.toml").read_text()
        (project / "jobs" / f"{name}.toml").write_text(text)
    (project / ".env").write_text(f"USERS_API_TOKEN='{TOKEN}'\nUSERS_API_URL={users.url}\n")
    return start(project)


@pytest.fixture(autouse=True)
def _fresh(users):
    users.users = [users.user(n) for n in range(1, 251)]
    users.asked.clear()
    users.statuses.clear()
    users.at_once, users.delay_seconds, users.before = 0, 0.0, lambda _query: None


async def ran(up, job, status="SUCCEEDED"):
    run = await up.ended(await up.trigger(job))
    assert run["status"] == status, run
    return (await up.ask(SYNC, id=run["id"]))["run"] | {"id": run["id"], "logs": run["logs"]}


async def test_seed_003_from_end_to_end(up, users):
    await ran(up, "users-tables")
    users.limit_next()
    began = time.time()
    first = await ran(up, "users-sync")
    sync = first["sync"]
    assert (sync["records"], sync["pages"], sync["batches"]) == ("250", 3, 25)
    assert (sync["inserted"], sync["updated"], sync["errors"]) == ("250", "0", [])
    assert 1 <= sync["durationSeconds"] <= time.time() - began
    assert users.statuses == [429, 200, 200, 200]
    assert [query["page"] for query in users.asked] == ["1", "1", "2", "3"]
    assert {query["updated_since"] for query in users.asked} == {"2024-01-01T00:00:00Z"}
    progress = first["steps"][0]["progress"]
    assert (progress["batch"], progress["batches"]) == (25, 25)
    assert (progress["percent"], progress["last"], progress["done"]) == (100.0, True, "250")

    told = [node["progress"] for node in first["events"]["nodes"] if "progress" in node]
    assert told[-1] == {"batch": 25, "batches": 25, "percent": 100.0, "last": True}
    assert all(one["percent"] == 4 * one["batch"] for one in told)
    state = (await up.ask(STATE, job="users-sync"))["job"]
    (mark,) = state["watermarks"]
    assert mark["name"] == "last_user_sync"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mark["value"])
    users.asked.clear()
    second = await ran(up, "users-sync")
    assert users.asked[0]["updated_since"] == mark["value"]
    assert (second["sync"]["records"], second["sync"]["pages"]) == ("0", 1)

    assert up.cli("watermark", "reset", "users-sync", "last_user_sync").returncode == 0
    third = await ran(up, "users-sync")
    assert (third["sync"]["inserted"], third["sync"]["updated"]) == ("0", "250")
    async with up.database() as connection:
        rows = await connection.fetch("SELECT * FROM public.users ORDER BY external_id")
        logs = await connection.fetch("SELECT * FROM public.sync_logs ORDER BY completed_at")
    assert len(rows) == 250
    one = rows[3]
    assert (one["external_id"], one["email"]) == ("usr_00004", "user.4@example.com")
    assert (one["name"], one["status"]) == ("First4 Last4", "inactive")
    assert json.loads(one["metadata"])["original_id"] == "usr_00004"
    assert [(log["status"], log["records_processed"], log["pages"]) for log in logs] == [
        ("completed", 250, 3),
        ("completed", 0, 1),
        ("completed", 250, 3),
    ]
    assert len({log["sync_id"] for log in logs}) == 3
    recent = await ran(up, "recent-syncs")
    assert recent["steps"][0]["summary"] == "3 rows"
    assert TOKEN not in up.said()


async def test_a_bad_batch_and_its_retry_from_the_command_line(up, users):
    async with up.database() as connection:
        await connection.execute("TRUNCATE public.users")
        await connection.execute(
            "ALTER TABLE public.users ADD CONSTRAINT known CHECK (email NOT LIKE 'user.66@%')"
        )
    up.cli("watermark", "reset", "users-sync", "last_user_sync")
    run = await ran(up, "users-sync", "PARTIAL")
    (batch,) = run["failedBatches"]["nodes"]
    assert (batch["page"], batch["batch"], batch["items"], batch["status"]) == (1, 7, 10, "pending")
    assert run["sync"]["errorCount"] == 1
    assert 'violates check constraint "known"' in run["sync"]["errors"][0]["error"]
    assert (await up.ask(STATE, job="users-sync"))["job"]["watermarks"] == []
    async with up.database() as connection:
        assert await connection.fetchval("SELECT count(*) FROM public.users") == 240
        await connection.execute("ALTER TABLE public.users DROP CONSTRAINT known")
    said = up.cli("job", "retry-failed", "users-sync", "--follow")
    assert (said.returncode, "retries 1 batch." in said.stdout) == (0, True), said
    async with up.database() as connection:
        assert await connection.fetchval("SELECT count(*) FROM public.users") == 250
    state = (await up.ask(STATE, job="users-sync"))["job"]
    assert state["failedBatches"]["totalCount"] == 1
    assert "nothing to retry" in up.cli("job", "retry-failed", "users-sync").stdout


async def test_a_watermark_by_hand(up, users):
    given = "2026-01-01T00:00:00Z"
    assert up.cli("watermark", "set", "users-sync", "last_user_sync", given).returncode == 0
    shown = json.loads(up.cli("watermark", "list", "users-sync", "--json").stdout)
    assert [(mark["name"], mark["value"], mark["run"]) for mark in shown] == [
        ("last_user_sync", given, None)
    ]
    await ran(up, "users-sync")
    assert users.asked[0]["updated_since"] == given
    missing = up.cli("watermark", "list", "nobody")
    assert (missing.returncode, "nobody" in missing.stderr) == (2, True)


async def test_three_pages_at_once(up, users):
    users.users = [users.user(n) for n in range(1, 1001)]
    users.delay_seconds = 0.1
    run = await ran(up, "parallel-pages")
    assert run["sync"]["records"] == "1000"
    assert users.at_once == 3
    pages = [int(query["page"]) for query in users.asked]
    assert (pages[0], sorted(pages)) == (1, list(range(1, 21)))
    async with up.database() as connection:
        rows = await connection.fetch("SELECT id FROM public.people ORDER BY place")
    assert [row["id"] for row in rows] == [f"usr_{n:05}" for n in range(1, 1001)]


async def test_only_what_changed(up, users):
    def changes(query):
        """A row changes while page 3 is read: it is read again next time."""
        if query["page"] == "3" and "2024" in query["updated_since"]:
            users.users[0] = users.user(1, "2026-02-02T00:00:00Z") | {"email": "new@example.com"}

    users.before = changes
    users.users[100]["updated_at"] = "2026-02-01T00:00:00Z"
    first = await ran(up, "incremental")
    assert first["sync"]["inserted"] == "250"
    (mark,) = (await up.ask(STATE, job="incremental"))["job"]["watermarks"]
    assert (mark["name"], mark["value"]) == ("newest", "2026-02-01T00:00:00Z")
    users.asked.clear()
    second = await ran(up, "incremental")
    assert users.asked[0]["updated_since"] == "2026-02-01T00:00:00Z"
    assert (second["sync"]["inserted"], second["sync"]["updated"]) == ("0", "2")
    async with up.database() as connection:
        email = "SELECT email FROM public.changed_users WHERE id = 'usr_00001'"
        assert await connection.fetchval(email) == "new@example.com"
