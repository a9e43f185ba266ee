"""Runs that outside scripts report: seed 004's record, its watermark, and what it lacked."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from nomaflow.client import AsyncJob, ClientError, Job
from nomaflow.in_force import catalog
from nomaflow.outside import external_runs

from .conftest import TOKEN, serve

RUN = """run { id jobName kind status reason startedAt finishedAt triggeredBy rowsAffected
  external { source destination recordsProcessed message heartbeatAt stale }
  error { type message } } created errors { code message path }"""
START = f"mutation ($in: ExternalRunStartInput!) {{ externalRunStart(input: $in) {{ {RUN} }} }}"
FINISH = f"mutation ($in: ExternalRunFinishInput!) {{ externalRunFinish(input: $in) {{ {RUN} }} }}"
CREATE_JOB = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""
TRIGGER = """mutation ($input: RunTriggerInput!) { runTrigger(input: $input) {
  run { id } errors { message } } }"""
BEAT = f"""mutation ($run: ID!, $message: String) {{
  externalRunHeartbeat(run: $run, message: $message) {{ {RUN} }} }}"""
RECENT = """query ($job: String!, $status: RunStatus, $source: String, $destination: String) {
  mostRecent(job: $job, status: $status, source: $source, destination: $destination) {
    startedAt unix run { id status } } }"""


async def start(api, job="permits", **more):
    wish = {"job": job, "source": "amanda", "destination": "socrata", **more}
    return (await api.query(START, **{"in": wish}))["externalRunStart"]


async def finish(api, run, status="SUCCEEDED", **more):
    wish = {"run": run, "status": status, **more}
    return (await api.query(FINISH, **{"in": wish}))["externalRunFinish"]


async def recent(api, job="permits", **more):
    return (await api.query(RECENT, job=job, **more))["mostRecent"]


async def test_the_life_of_an_outside_run(api):
    assert await recent(api) is None  # Z07
    began = await start(api)
    run = began["run"]
    assert (began["created"], began["errors"]) == (True, [])
    assert (run["kind"], run["status"], run["finishedAt"]) == ("EXTERNAL", "RUNNING", None)
    assert run["external"] == {
        "source": "amanda",
        "destination": "socrata",
        "recordsProcessed": None,
        "message": None,
        "heartbeatAt": None,
        "stale": False,
    }
    assert await recent(api) is None  # Z05: in progress does not count
    ended = await finish(api, run["id"], recordsProcessed=42, message="create: 40; update: 2")
    assert ended["errors"] == []
    assert ended["run"]["status"] == "SUCCEEDED"
    assert ended["run"]["external"]["recordsProcessed"] == "42"
    assert ended["run"]["external"]["message"] == "create: 40; update: 2"
    assert ended["run"]["rowsAffected"] == "42"
    assert ended["run"]["finishedAt"] is not None
    found = await recent(api)
    assert found["startedAt"] == run["startedAt"]  # Z06: the start, not the end
    at = datetime.fromisoformat(run["startedAt"])
    assert abs(found["unix"] - at.timestamp()) < 0.001


async def test_a_failure_leaves_the_watermark_and_has_its_own(api):
    good = (await start(api))["run"]
    await finish(api, good["id"])
    bad = (await start(api))["run"]
    ended = await finish(api, bad["id"], "FAILED", message="KeyError: id")
    assert ended["run"]["reason"] == "KeyError: id"
    assert ended["run"]["error"] == {"type": "ExternalError", "message": "KeyError: id"}
    assert (await recent(api))["run"]["id"] == good["id"]
    assert (await recent(api, status="FAILED"))["run"]["id"] == bad["id"]  # Z08


async def test_each_name_and_destination_has_its_own_watermark(api):
    one = (await start(api))["run"]
    await finish(api, one["id"])
    assert await recent(api, job="permit") is None  # Z09
    assert await recent(api, destination="knack") is None
    assert (await recent(api, source="amanda", destination="socrata"))["run"]["id"] == one["id"]


async def test_the_newest_is_the_one_that_ended_last(api):
    first, second = [(await start(api))["run"]["id"] for _ in range(2)]
    await finish(api, second)
    await finish(api, first)
    assert (await recent(api))["run"]["id"] == first


async def test_runs_of_the_engine_count_as_well(api, worker):
    await worker.born(job_name="copy", dry_run=True)
    dry = await worker.claim()
    await worker.done(dry)
    await worker.done(dry)
    assert await recent(api, job="copy") is None  # a dry run loaded nothing
    await worker.born(job_name="copy")
    run_id = await worker.claim()
    await worker.done(run_id)
    await worker.done(run_id)
    assert (await recent(api, job="copy"))["run"]["status"] == "SUCCEEDED"  # Z18


async def test_the_same_key_finds_the_same_run(api):
    first = await start(api, idempotencyKey="2026-11-25")
    again = await start(api, idempotencyKey="2026-11-25")
    assert (first["created"], again["created"]) == (True, False)  # Z19
    assert first["run"]["id"] == again["run"]["id"]
    other = await start(api, idempotencyKey="2026-11-25", destination="knack")
    assert [e["code"] for e in other["errors"]] == ["CONFLICT"]
    many = await asyncio.gather(*(start(api, idempotencyKey="at once") for _ in range(8)))
    assert len({one["run"]["id"] for one in many}) == 1
    assert sum(one["created"] for one in many) == 1


@pytest.mark.parametrize(
    ("wish", "path", "words"),
    [
        ({"job": "  "}, "job", "is empty; it must be text of 1 to 200"),
        ({"job": "x" * 10_240}, "job", "has 10,240 characters, and may have 200 at most"),
        ({"source": ""}, "source", "is empty"),
        ({"destination": "a\u202eb"}, "destination", "the invisible character U+202E"),
        ({"job": "a\x1bb"}, "job", "the invisible character U+001B"),
        ({"job": "a\u2028b"}, "job", "the invisible character U+2028"),
        ({"idempotencyKey": ""}, "idempotencyKey", "1 to 200"),
        ({"idempotencyKey": "a\x01b"}, "idempotencyKey", "U+0001"),
        ({"heartbeatSeconds": 0}, "heartbeatSeconds", "between 1 second and 7 days"),
        ({"startedAt": "2999-01-01T00:00:00Z"}, "startedAt", "in the future"),
    ],
)
async def test_a_wrong_start_writes_nothing(api, wish, path, words):
    answer = await start(api, **wish)
    (error,) = answer["errors"]
    assert (answer["run"], error["code"], error["path"]) == (None, "INVALID", [path])
    assert words in error["message"]
    assert await api.db.fetchval("SELECT count(*) FROM nomaflow.runs") == 0


async def test_a_start_of_its_own_clock_is_kept_and_never_in_the_future(api):
    early = datetime.now(UTC) - timedelta(hours=3)
    run = (await start(api, startedAt=early.isoformat()))["run"]
    assert abs(datetime.fromisoformat(run["startedAt"]) - early) < timedelta(milliseconds=1)
    ahead = datetime.now(UTC) + timedelta(minutes=2)  # a clock that is a little fast
    run = (await start(api, startedAt=ahead.isoformat()))["run"]
    assert datetime.fromisoformat(run["startedAt"]) <= datetime.now(UTC)


async def test_reports_that_do_not_fit_change_nothing(api, worker):
    unknown = await finish(api, "00000000-0000-7000-8000-000000000000")
    assert [e["code"] for e in unknown["errors"]] == ["NOT_FOUND"]  # Z13
    run = (await start(api))["run"]
    less = await finish(api, run["id"], recordsProcessed=-1)
    assert [e["path"] for e in less["errors"]] == [["recordsProcessed"]]
    await finish(api, run["id"], recordsProcessed=1)
    twice = await finish(api, run["id"], "FAILED", message="no")
    assert [e["code"] for e in twice["errors"]] == ["INVALID_STATE"]
    assert twice["run"]["status"] == "SUCCEEDED"
    assert twice["run"]["external"]["recordsProcessed"] == "1"
    word = await api.errors(FINISH, **{"in": {"run": run["id"], "status": "done"}})
    assert word[0][0] == "BAD_USER_INPUT" or "done" in word[0][1]  # Z03
    await worker.born()
    ours = await worker.claim()
    stolen = await finish(api, str(ours))
    assert "Nomaflow's own workers" in stolen["errors"][0]["message"]
    assert (await api.query(BEAT, run=str(ours)))["externalRunHeartbeat"]["errors"]


async def test_a_name_is_found_however_it_is_written(api):
    run = (await start(api, job=" cafe\u0301 ", source="amanda "))["run"]
    assert run["jobName"] == "caf\u00e9"
    await finish(api, run["id"])
    for name, source in (("caf\u00e9", "amanda"), ("cafe\u0301\n", " amanda")):
        assert (await recent(api, job=name, source=source))["run"]["id"] == run["id"]
    assert await recent(api, job="a\x01b") is None
    assert await recent(api, job="x" * 10_240) is None


async def test_what_scripts_say_may_hold_anything(api):
    job = AsyncJob("permits", api.url, "a", "b", TOKEN)
    said = "half\x00 of\ud800 it " + "x" * 20_000
    await job.start()
    await job.heartbeat(said)
    await job.result("error", said)
    kept = await api.db.fetchval("SELECT message FROM nomaflow.external_runs")
    assert kept.startswith("half of? it xxx")
    assert kept.endswith(" ... (cut)")


async def test_a_declared_job_of_the_same_name_is_told_of(api):
    step = {"name": "go", "type": "http", "config": {"url": "http://127.0.0.1:1/"}}
    await api.query(CREATE_JOB, input={"name": "permits", "steps": [step]})
    run = (await start(api))["run"]
    lines = await api.db.fetch("SELECT message FROM nomaflow.log_lines")
    assert [row["message"].split(":")[0] for row in lines] == [
        "`permits` is the name of a declared job too"
    ]
    # It takes no place of the job: its clock and people may start it meanwhile.
    ours = await api.query(TRIGGER, input={"job": "permits"})
    assert ours["runTrigger"]["errors"] == []
    await finish(api, run["id"])
    assert (await recent(api, job="permits"))["run"]["id"] == run["id"]


async def test_no_token_no_word(api):
    async with httpx.AsyncClient(base_url=api.url) as stranger:
        wish = {"in": {"job": "a", "source": "b", "destination": "c"}}
        answer = await stranger.post("/graphql", json={"query": START, "variables": wish})
    assert answer.status_code == 401  # Z12
    assert await api.db.fetchval("SELECT count(*) FROM nomaflow.runs") == 0


async def test_a_sign_of_life_is_a_line_of_the_log_and_heard_live(api):
    run = (await start(api))["run"]
    async with api.socket() as socket:
        await socket.subscribe(
            """subscription ($run: ID!) { runEvents(run: $run) {
                 __typename ... on LogsWritten { lines { message } }
                 ... on RunChanged { status } } }""",
            run=run["id"],
        )
        heard = [await socket.next()]
        beat = (await api.query(BEAT, run=run["id"], message="page 3"))["externalRunHeartbeat"]
        assert beat["run"]["external"]["heartbeatAt"] is not None
        heard.append(await socket.next())
        await finish(api, run["id"])
        heard += await socket.rest()
    told = [event["runEvents"] for event in heard]
    assert told[0]["status"] == "RUNNING"
    assert told[1]["lines"] == [{"message": "page 3"}]
    assert told[-1]["status"] == "SUCCEEDED"  # Z14


async def test_a_silent_run_is_stale_until_it_speaks(api):
    run = (await start(api, heartbeatSeconds=10))["run"]
    now = datetime.now(UTC)
    bell, channels = api.backing.bell, api.backing.project.alerts()
    soon = now + timedelta(seconds=29)
    assert await external_runs.look_for_stale(api.db, bell, channels, at=soon) == 0
    late = now + timedelta(seconds=40)
    assert await external_runs.look_for_stale(api.db, bell, channels, at=late) == 1  # Z15
    assert await external_runs.look_for_stale(api.db, bell, channels, at=late) == 0
    (line,) = await api.db.fetch("SELECT message FROM nomaflow.log_lines")
    assert line["message"].startswith(("no sign of life for 40 s: ", "no sign of life for 39 s: "))
    await api.db.execute(
        "UPDATE nomaflow.external_runs SET heartbeat_at = now() - interval '1 hour'"
    )
    listed = """query ($stale: Boolean) { runs(filter: {stale: $stale, source: "amanda"}) {
      nodes { id external { stale } } } }"""
    (found,) = (await api.query(listed, stale=True))["runs"]["nodes"]
    assert found == {"id": run["id"], "external": {"stale": True}}
    assert (await api.query(listed, stale=False))["runs"]["nodes"] == []
    await api.query(BEAT, run=run["id"])
    assert (await api.query(listed, stale=True))["runs"]["nodes"] == []
    assert (await finish(api, run["id"]))["errors"] == []  # late is not too late


async def test_an_abort_ends_the_record_and_the_script_hears_of_it(api):
    run = (await start(api))["run"]
    abort = "mutation ($run: ID!) { runAbort(run: $run) { run { status reason } errors { code } } }"
    ended = (await api.query(abort, run=run["id"]))["runAbort"]
    assert ended["run"] == {"status": "ABORTED", "reason": "aborted by api"}
    beat = (await api.query(BEAT, run=run["id"]))["externalRunHeartbeat"]
    assert [e["code"] for e in beat["errors"]] == ["INVALID_STATE"]
    assert "aborted" in beat["errors"][0]["message"]


async def test_only_that_very_name_is_deleted(api, worker):
    for job in ("permits", "permits", "permits-2", "PERMITS"):
        await finish(api, (await start(api, job=job))["run"]["id"])
    await start(api)  # an open one of a script that crashed
    await worker.born(job_name="permits")
    delete = """mutation ($job: String!, $confirm: String!) {
      runsDelete(job: $job, confirm: $confirm) { deleted errors { code path } } }"""
    wrong = (await api.query(delete, job="permits", confirm="permit"))["runsDelete"]
    assert wrong == {"deleted": 0, "errors": [{"code": "INVALID", "path": ["confirm"]}]}
    gone = (await api.query(delete, job="permits", confirm="permits"))["runsDelete"]
    assert gone == {"deleted": 3, "errors": []}  # Z11
    left = await api.db.fetch("SELECT job_name, kind FROM nomaflow.runs ORDER BY job_name")
    assert [tuple(row) for row in left] == [
        ("PERMITS", "external"),
        ("permits", "job"),  # it waits for a worker
        ("permits-2", "external"),
    ]


async def test_the_job_of_that_name_decides_about_alerts(api):
    raw = {
        "name": "permits",
        "alerts": {"recipients": ["ops"]},
        "steps": [{"name": "a", "type": "sql_query", "query": "SELECT 1", "connector": "default"}],
    }
    await catalog.create(api.db, api.backing.bell, raw, by="test")
    await finish(api, (await start(api))["run"]["id"])
    await finish(api, (await start(api))["run"]["id"], "FAILED", message="no disk")
    await finish(api, (await start(api, job="other"))["run"]["id"], "FAILED", message="no disk")
    told = await api.db.fetch("SELECT job_name, event, payload FROM nomaflow.deliveries")
    assert [(row["job_name"], row["event"]) for row in told] == [("permits", "failed")]
    assert told[0]["payload"]["error"] == "no disk"


async def test_secrets_of_the_project_are_masked_in_what_scripts_say(options, project):
    (project / ".env").write_text("API_TOKEN=tok-1234567890\n")
    async with serve(options) as api:
        run = (await start(api))["run"]
        ended = await finish(api, run["id"], "FAILED", message="401 for tok-1234567890")
    assert ended["run"]["reason"] == "401 for ***"


async def test_the_view_has_the_words_of_the_seed(api):
    run = (await start(api))["run"]
    view = "SELECT * FROM nomaflow.jobs_api"
    row = await api.db.fetchrow(view)
    assert list(row.keys()) == [
        "id",
        "name",
        "start_date",
        "end_date",
        "message",
        "status",
        "records_processed",
        "source",
        "destination",
    ]
    assert (row["status"], row["end_date"]) == ("in_progress", None)
    await finish(api, run["id"], recordsProcessed=7)
    row = await api.db.fetchrow(view)
    assert (row["status"], row["records_processed"]) == ("success", 7)


# --- the client


def script(url, **more):
    return Job("permits", url, source="amanda", destination="socrata", auth=TOKEN, **more)


async def test_the_four_calls_of_the_seed(api):
    def calls():
        job = script(api.url)
        assert job.most_recent() is None
        record = job.start()
        assert (record["name"], record["status"], record["end_date"]) == (
            "permits",
            "in_progress",
            None,
        )
        assert set(record) == {
            "id",
            "name",
            "start_date",
            "end_date",
            "message",
            "status",
            "records_processed",
            "source",
            "destination",
        }
        assert job.most_recent() is None
        ended = job.result("success", records_processed=31_415)
        assert (ended["status"], ended["records_processed"]) == ("success", 31_415)
        assert ended["end_date"] > ended["start_date"]
        start = datetime.fromisoformat(record["start_date"]).timestamp()
        assert job.most_recent() == pytest.approx(start, abs=0.001)
        with pytest.raises(ClientError, match="already succeeded"):
            job.result("error")
        with pytest.raises(ValueError, match="'success' or 'error', not 'done'"):
            job.result("done")
        with pytest.raises(RuntimeError, match=r"call start\(\) before result\(\)"):
            script(api.url).result("success")
        with pytest.raises(ValueError, match="nothing was deleted"):
            job.delete("permit")
        return job.delete("permits")

    assert await asyncio.to_thread(calls) == 1


async def test_as_a_context_it_records_what_happened(api):
    def calls():
        with script(api.url, heartbeat_seconds=60) as job:
            job.heartbeat("half of it")
            job.records_processed = 5
        good = job.record
        with pytest.raises(KeyError), script(api.url) as job:
            raise KeyError("id")
        return good, job.record

    good, bad = await asyncio.to_thread(calls)
    assert (good["status"], good["records_processed"]) == ("success", 5)
    assert (bad["status"], bad["message"]) == ("error", "KeyError: 'id'")


async def test_the_same_calls_without_threads(api):
    async with AsyncJob("permits", api.url, "amanda", "socrata", TOKEN) as job:
        await job.heartbeat()
        job.message = "create: 3"
    assert (job.record["status"], job.record["message"]) == ("success", "create: 3")
    assert await job.most_recent("error") is None
    assert await job.delete("permits") == 1


async def test_a_wrong_token_is_said(api):
    job = Job("permits", api.url, "a", "b", auth="nf_wrong")
    with pytest.raises(ClientError) as refused:
        await asyncio.to_thread(job.start)
    assert refused.value.code == "FORBIDDEN"


async def test_a_script_outlives_a_restart_of_the_api(options):
    async with serve(options) as api:
        job = AsyncJob("permits", api.url, "a", "b", TOKEN)
        await job.start()
    port = int(api.url.rpartition(":")[2])

    async def back():
        async with serve(options, port=port) as again:
            await ended.wait()
            return await again.db.fetchval("SELECT status FROM nomaflow.runs")

    ended = asyncio.Event()
    serving = asyncio.create_task(back())
    await job.result("success")
    ended.set()
    assert await serving == "succeeded"
