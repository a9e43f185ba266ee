"""Jobs over GraphQL: declared, read, changed, switched, deleted; every mistake is a sentence."""

import asyncio
import itertools

from nomaflow.in_force import catalog

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) {
  job { name revision } errors { code message path } } }"""
UPDATE = """mutation ($input: JobInput!, $revision: Int) {
  jobUpdate(input: $input, expectedRevision: $revision) {
    job { name revision enabled } errors { code message path } } }"""
STEP = {"name": "a", "type": "sql_query", "config": {"connector": "default", "query": "SELECT 1"}}
JOB = {"name": "copy", "steps": [STEP]}


async def create(api, **fields):
    return (await api.query(CREATE, input={**JOB, **fields}))["jobCreate"]


async def test_a_job_is_declared_and_read_back_whole(api):
    declared = {
        "name": "copy",
        "app": "reporting",
        "description": "copies",
        "tags": ["etl"],
        "schedule": "0 2 * * *",
        "timezone": "Europe/Paris",
        "params": {"day": "monday"},
        "overlap": "ALLOW",
        "timeoutSeconds": 600,
        "logLevel": "DEBUG",
        "retry": {"attempts": 3, "baseSeconds": 5},
        "presets": [{"name": "sandbox", "params": {"day": "friday"}, "steps": {"b": False}}],
        "steps": [
            STEP | {"timeoutSeconds": 30, "continueOnError": True},
            {
                "name": "b",
                "type": "http",
                "config": {"url": "https://example.org"},
                "retry": {"attempts": 2},
            },
        ],
    }
    assert (await api.query(CREATE, input=declared))["jobCreate"] == {
        "job": {"name": "copy", "revision": 1},
        "errors": [],
    }
    query = """{ job(name: "copy") {
      id name app description tags enabled origin revision updatedBy definition toml params
      overlap timeoutSeconds logLevel needsParameters pausedUntil paramSchema worker priority
      retry { attempts backoff baseSeconds maxSeconds jitter retryOn noRetryStatuses }
      steps { name type enabled timeoutSeconds continueOnError onInterrupt when config
              retry { attempts baseSeconds } }
      schedules { name enabled cron everySeconds timezone description fireCount nextFireAt
                  upcoming(first: 2) }
      presets { name params stepKwargs stepEnabled logLevel }
      nextFireAt lastRun { id } lastSuccess { id } inFlight { id } viewerCan } }"""
    job = (await api.query(query))["job"]
    assert (job["app"], job["description"], job["tags"]) == ("reporting", "copies", ["etl"])
    assert (job["origin"], job["updatedBy"], job["enabled"]) == ("API", "api", True)
    assert (job["overlap"], job["timeoutSeconds"], job["logLevel"]) == ("ALLOW", 600, "DEBUG")
    assert job["needsParameters"] is True
    assert [s["retry"]["attempts"] for s in job["steps"]] == [3, 2]
    assert job["steps"][0]["config"] == {"connector": "default", "query": "SELECT 1"}
    assert {s["onInterrupt"] for s in job["steps"]} <= {"retry", "fail"}
    (clock,) = job["schedules"]
    assert (clock["cron"], clock["timezone"]) == ("0 2 * * *", "Europe/Paris")
    assert clock["description"] == "At 02:00 every day"
    assert clock["nextFireAt"] == job["nextFireAt"] == clock["upcoming"][0]
    assert job["presets"][0]["stepEnabled"] == {"b": False}
    assert job["toml"].startswith("[[jobs]]")
    assert job["definition"]["name"] == "copy"
    assert job["inFlight"] == []
    node = await api.query(
        "query ($id: ID!) { node(id: $id) { id ... on Job { name } } }", id=job["id"]
    )
    assert node["node"] == {"id": job["id"], "name": "copy"}


WRONG = {
    "unknown field": (
        {"steps": [STEP | {"config": {**STEP["config"], "conector": "x"}}]},
        "INVALID",
        ["steps", "0", "conector"],
    ),
    "two steps of one name": ({"steps": [STEP, STEP]}, "INVALID", ["steps", "1", "name"]),
    "bad cron": ({"schedule": "0 25 * * *"}, "INVALID", ["schedule"]),
    "bad zone": (
        {"schedule": "0 2 * * *", "timezone": "Europe/Pari"},
        "INVALID",
        ["timezone"],
    ),
    "missing field": (
        {"steps": [{"name": "a", "type": "sql_query", "config": {"connector": "default"}}]},
        "INVALID",
        ["steps", "0", "query"],
    ),
    "unknown type": (
        {"steps": [{"name": "a", "type": "sqlquery", "config": {}}]},
        "INVALID",
        ["steps", "0", "type"],
    ),
    "no steps": ({"steps": []}, "INVALID", ["steps"]),
    "bad name": ({"name": "a b/c"}, "INVALID", ["name"]),
    "timeout of a step": (
        {"steps": [STEP | {"timeoutSeconds": -1}]},
        "INVALID",
        ["steps", "0", "timeoutSeconds"],
    ),
}


async def test_every_mistake_is_a_sentence_with_its_place_and_changes_nothing(api):
    for name, (fields, code, path) in WRONG.items():
        answer = await create(api, **fields)
        assert answer["job"] is None, name
        found = [(e["code"], e["path"]) for e in answer["errors"]]
        assert (code, path) in found, (name, answer["errors"])
        assert all(len(e["message"]) > 10 for e in answer["errors"]), name
    assert (await api.query("{ jobs { totalCount } }"))["jobs"]["totalCount"] == 0


async def test_fields_that_are_not_in_the_input_are_refused(api):
    for extra in ("owner", "nextFireAt", "revision", "leaseToken"):
        errors = await api.errors(CREATE, input={**JOB, extra: "x"})
        assert [code for code, _ in errors] == ["BAD_USER_INPUT"], extra


async def test_a_name_is_taken_once(api):
    await create(api)
    (error,) = (await create(api))["errors"]
    assert (error["code"], error["path"]) == ("ALREADY_EXISTS", ["name"])


async def test_an_update_replaces_the_whole_and_minds_the_revision(api):
    await create(api, tags=["old"])
    new = {**JOB, "description": "new"}
    answer = (await api.query(UPDATE, input=new, revision=1))["jobUpdate"]
    assert answer["job"]["revision"] == 2
    job = (await api.query('{ job(name: "copy") { tags description } }'))["job"]
    assert job == {"tags": [], "description": "new"}
    (error,) = (await api.query(UPDATE, input=new, revision=1))["jobUpdate"]["errors"]
    assert error["code"] == "CONFLICT"
    unknown = (await api.query(UPDATE, input={**new, "name": "nobody"}))["jobUpdate"]
    assert unknown["errors"][0]["code"] == "NOT_FOUND"


async def test_a_job_is_switched_and_deleted(api):
    await create(api, schedule="0 2 * * *")
    switch = """mutation ($on: Boolean!) { jobEnable(name: "copy", enabled: $on) {
      job { enabled nextFireAt } errors { code } } }"""
    off = (await api.query(switch, on=False))["jobEnable"]["job"]
    assert off == {"enabled": False, "nextFireAt": None}
    on = (await api.query(switch, on=True))["jobEnable"]["job"]
    assert on["enabled"] is True
    assert on["nextFireAt"] is not None
    delete = 'mutation { jobDelete(name: "copy") { name errors { code } } }'
    assert (await api.query(delete))["jobDelete"] == {"name": "copy", "errors": []}
    assert (await api.query('{ job(name: "copy") { id } }'))["job"] is None
    assert (await api.query(delete))["jobDelete"]["errors"] == [{"code": "NOT_FOUND"}]


FILE = """
[[jobs]]
name = "from-file"
tags = ["nightly"]
[[jobs.steps]]
name = "a"
type = "sql_query"
connector = "default"
query = "SELECT 1"
"""


async def test_a_file_job_is_read_only_and_a_broken_file_is_a_problem(api, project):
    (project / "jobs.toml").write_text(FILE)
    await catalog.sync(api.db, api.backing.bell, api.backing.project)
    job = (await api.query('{ job(name: "from-file") { origin tags } }'))["job"]
    assert job == {"origin": "FILE", "tags": ["nightly"]}
    update = (await api.query(UPDATE, input={**JOB, "name": "from-file"}))["jobUpdate"]
    assert update["errors"][0]["code"] == "CONFLICT"
    assert "jobs.toml" in update["errors"][0]["message"]
    (project / "jobs.toml").write_text(FILE.replace('connector = "default"', "connector ="))
    await catalog.sync(api.db, api.backing.bell, api.backing.project)
    query = "{ catalogProblems { file line path message at } jobs { nodes { name } } }"
    answer = await api.query(query)
    (problem,) = answer["catalogProblems"]
    assert problem["file"] == "jobs.toml"
    assert problem["line"] > 1
    assert answer["jobs"]["nodes"] == [{"name": "from-file"}]


async def test_a_changed_file_is_picked_up_by_the_running_api(api, project):
    async def edit():
        for number in itertools.count():
            (project / "jobs.toml").write_text(f"# edit {number}\n{FILE}")
            await asyncio.sleep(0.2)

    async with api.socket() as socket:
        await socket.subscribe("subscription { jobsChanged { name change } }")
        editing = asyncio.create_task(edit())
        change = (await socket.next())["jobsChanged"]
        editing.cancel()
    assert change == {"name": "from-file", "change": "created"}


async def test_lists_of_jobs_are_paged_and_filtered(api):
    for name in ("a1", "a2", "b1", "b2", "b3"):
        await create(api, name=name, app=name[0], tags=[f"t{name[1]}"], enabled=name != "b3")
    query = """query ($first: Int, $after: String, $filter: JobFilter) {
      jobs(first: $first, after: $after, filter: $filter) {
        nodes { name } edges { cursor node { name } } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""

    async def names(**given):
        page = (await api.query(query, **given))["jobs"]
        assert [e["node"] for e in page["edges"]] == page["nodes"]
        return [n["name"] for n in page["nodes"]], page["pageInfo"], page["totalCount"]

    first, facts, total = await names(first=2)
    assert (first, facts["hasNextPage"], facts["hasPreviousPage"], total) == (
        ["a1", "a2"],
        True,
        False,
        5,
    )
    second, facts, _ = await names(first=3, after=facts["endCursor"])
    assert (second, facts["hasNextPage"], facts["hasPreviousPage"]) == (
        ["b1", "b2", "b3"],
        False,
        True,
    )
    assert (await names(filter={"app": "a"}))[0] == ["a1", "a2"]
    assert (await names(filter={"tags": ["t2"]}))[0] == ["a2", "b2"]
    assert (await names(filter={"enabled": False}))[0] == ["b3"]
    assert (await names(filter={"search": "B"}))[0] == ["b1", "b2", "b3"]
    assert (await names(filter={"name": "b2"}))[0] == ["b2"]
    assert (await names(filter={"lastStatus": ["FAILED"]}))[0] == []


async def test_a_page_that_makes_no_sense_is_bad_input(api):
    query = """query ($first: Int, $after: String) {
      jobs(first: $first, after: $after) { nodes { id } } }"""
    for given in (
        {"first": 0},
        {"first": -1},
        {"first": 101},
        {"first": 200_000},
        {"after": "bogus"},
        {"after": "W10"},
        {"after": "x" * 600},
    ):
        ((code, message),) = await api.errors(query, **{"first": 5, **given})
        assert code == "BAD_USER_INPUT"
        assert len(message) > 20


async def test_a_schedule_is_shown_before_it_exists(api):
    query = """query ($cron: String, $every: Float, $zone: String, $after: DateTime) {
      schedulePreview(cron: $cron, everySeconds: $every, timezone: $zone, after: $after) {
        fires description error } }"""
    after = "2026-03-28T12:00:00Z"

    async def preview(**given):
        return (await api.query(query, after=after, **given))["schedulePreview"]

    shown = await preview(cron="30 2 * * *", zone="Europe/Paris")
    assert shown["fires"][0] == "2026-03-29T01:00:00.000Z"  # 02:30 is skipped that night
    assert shown["error"] is None
    assert (await preview(every=90))["fires"][0] == "2026-03-28T12:01:30.000Z"
    for wrong in (
        {"cron": "0 25 * * *"},
        {"cron": "* * * * *", "zone": "Europe/Pari"},
        {},
        {"cron": "* * * * *", "every": 5},
        {"every": 0},
    ):
        shown = await preview(**wrong)
        assert shown["fires"] == []
        assert len(shown["error"]) > 10, wrong


async def test_step_types_come_with_the_schema_of_their_settings(api):
    types = (await api.query("{ stepTypes { name title description jsonSchema } }"))["stepTypes"]
    assert {"sql_query", "sql_copy", "http", "python"} <= {t["name"] for t in types}
    assert all(t["title"] and t["jsonSchema"]["properties"] for t in types)


async def test_a_name_of_env_is_an_administrators_to_give(api, monkeypatch):
    from nomaflow_api.auth import Doorkeeper, Permission, Principal

    config = {"url": "https://x.example/", "headers": {"Authorization": "Bearer ${env:TOKEN}"}}
    asks = {"name": "asks", "steps": [{"name": "get", "type": "http", "config": config}]}
    assert (await api.query(CREATE, input=asks))["jobCreate"]["errors"] == []
    kept = "SELECT any_env FROM nomaflow.job_revisions ORDER BY at DESC"
    assert await api.db.fetchval(kept) is True
    weak = Principal("editor", "service", frozenset({Permission.SEE, Permission.EDIT}))
    monkeypatch.setattr(Doorkeeper, "admit", lambda *_: weak)
    other = {**asks, "steps": [{**asks["steps"][0], "config": {**config, "url": "https://y/"}}]}
    create, update = (CREATE, {**other, "name": "other"}), (UPDATE, other)
    for document, job in (create, update):
        (answer,) = (await api.query(document, input=job)).values()
        assert answer["job"] is None
        assert [(e["code"], e["path"]) for e in answer["errors"]] == [("FORBIDDEN", ["steps", "0"])]
        assert "NOMAFLOW_API_ENV_ALLOW" in answer["errors"][0]["message"]
    (answer,) = (await api.query(CREATE, input={**JOB, "name": "fine"})).values()
    assert answer["job"] is not None
    assert await api.db.fetchval(kept) is False
