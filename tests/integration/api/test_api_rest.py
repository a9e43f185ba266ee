"""The plain HTTP routes: the REST door, health, readiness, GraphiQL."""

import pytest

from nomaflow.store import processes
from nomaflow_api.doors import pages

CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""
STEP = {"name": "a", "type": "sql_query", "config": {"connector": "default", "query": "SELECT 1"}}


@pytest.fixture
async def job(api):
    await api.query(CREATE, input={"name": "copy", "steps": [STEP]})


async def test_one_post_starts_a_run(api, job):
    response = await api.http.post("/admin/jobs/copy/run")
    assert response.status_code == 202
    answer = response.json()
    assert answer["job_id"] == "copy"
    assert answer["triggered_by"] == "api"
    assert answer["status"] == "queued"
    run = await api.query("query ($id: ID!) { run(id: $id) { status } }", id=answer["run_id"])
    assert run["run"]["status"] == "QUEUED"
    busy = await api.http.post("/admin/jobs/copy/run")
    assert (busy.status_code, busy.json()["code"]) == (409, "BUSY")


async def test_a_fire_by_post_takes_the_same_overrides(api, job):
    body = {"params": {"x": 1}, "step_enabled": {"a": False}, "log_level": "DEBUG"}
    response = await api.http.post(
        "/admin/jobs/copy/run", json=body, headers={"Nomaflow-Client": "cli/bob"}
    )
    assert response.json()["triggered_by"] == "api"
    query = "query ($id: ID!) { run(id: $id) { params logLevel steps { status } } }"
    run = (await api.query(query, id=response.json()["run_id"]))["run"]
    assert run == {"params": {"x": 1}, "logLevel": "DEBUG", "steps": [{"status": "SKIPPED"}]}


async def test_a_post_that_is_sent_twice_with_one_key_starts_one_run(api, job):
    answers = [
        await api.http.post("/admin/jobs/copy/run", headers={"Idempotency-Key": key})
        for key in ("k1", "k1", '"k1"')
    ]
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["run_id"] for a in answers}) == 1
    other = await api.http.post("/admin/jobs/copy/run", headers={"Idempotency-Key": "k2"})
    assert other.status_code == 409
    for key in ("", '""', "k" * 201):
        wrong = await api.http.post("/admin/jobs/copy/run", headers={"Idempotency-Key": key})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["path"] == ["Idempotency-Key"]


async def test_a_wrong_wish_by_post_is_told_with_code_and_words(api, job):
    wishes = (
        ("nobody", {}, 404, "NOT_FOUND"),
        ("copy", {"step_enabled": {"zzz": True}}, 422, "INVALID"),
        ("copy", {"step_enabled": {"a": "yes"}}, 422, "INVALID"),
        ("copy", {"op_kwargs": {"a": 5}}, 422, "INVALID"),
        ("copy", {"op_kwargs": {"a": {"fech": "first"}}}, 422, "INVALID"),
        ("copy", {"params": []}, 422, "INVALID"),
        ("copy", {"log_level": "LOUD"}, 422, "INVALID"),
        ("copy", {"parms": {}}, 422, "INVALID"),
        ("copy", [], 422, "INVALID"),
    )
    for name, body, status, code in wishes:
        response = await api.http.post(f"/admin/jobs/{name}/run", json=body)
        assert (response.status_code, response.json()["code"]) == (status, code), body
        assert len(response.json()["message"]) > 10
    broken = await api.http.post(
        "/admin/jobs/copy/run", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert broken.status_code == 400
    assert (await api.query("{ runs { totalCount } }"))["runs"]["totalCount"] == 0


async def test_nobody_starts_a_run_without_a_token(api, job):
    api.http.headers.pop("Authorization")
    response = await api.http.post("/admin/jobs/copy/run")
    assert (response.status_code, response.json()["code"]) == (401, "UNAUTHENTICATED")
    assert (await api.http.get("/admin/jobs/copy/run")).status_code == 405
    assert await api.db.fetchval("SELECT count(*) FROM nomaflow.runs") == 0


async def test_ready_says_what_is_missing_until_nothing_is(api):
    api.http.headers.pop("Authorization")
    assert (await api.http.get("/health")).json() == {"status": "ok"}
    response = await api.http.get("/ready")
    assert response.status_code == 503
    assert set(response.json()["missing"]) == {"scheduler", "worker"}
    await processes.beat(api.db, "s1", "scheduler", state="standby")
    await processes.beat(api.db, "w1", "worker")
    assert set((await api.http.get("/ready")).json()["missing"]) == {"scheduler"}
    await processes.beat(api.db, "s1", "scheduler", state="active")
    response = await api.http.get("/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    await silence(api, "s1", 11)
    assert set((await api.http.get("/ready")).json()["missing"]) == {"scheduler"}


async def silence(api, name, seconds):
    await api.db.execute(
        "UPDATE processes SET seen_at = now() - make_interval(secs => $2) WHERE name = $1",
        name,
        seconds,
    )


@pytest.mark.parametrize("state", ["active", "standby"])
async def test_a_scheduler_that_fell_silent_is_an_error_before_it_is_gone(api, state):
    await processes.beat(api.db, "s1", "scheduler", state=state)
    shown = []
    for seconds in (5, 11, 16, 7_200):
        await silence(api, "s1", seconds)
        shown.append(await schedulers(api))
    last = [("s1", "ERROR")]
    assert shown == [[("s1", state.upper())], last, last, last]
    await processes.beat(api.db, "s2", "scheduler", state="active")
    assert await schedulers(api) == [("s2", "ACTIVE")]


async def schedulers(api):
    system = (await api.query("{ system { schedulers { name state } } }"))["system"]
    return [(one["name"], one["state"]) for one in system["schedulers"]]


async def test_the_system_shows_its_programs(api, worker):
    await processes.beat(api.db, "s1", "scheduler", state="active")
    await processes.beat(api.db, "w1", "worker", capacity=10, running=1)
    await worker.born()
    system = (
        await api.query("""{ system { version queueDepth running
      schedulers { name state heartbeatAt } workers { name capacity running seenAt }
      lastFailures { id } } }""")
    )["system"]
    assert (system["queueDepth"], system["running"]) == (1, 0)
    assert system["schedulers"][0]["state"] == "ACTIVE"
    assert system["workers"][0]["capacity"] == 10


async def test_graphiql_is_served_with_its_assets_or_with_how_to_build_it(
    api, tmp_path, monkeypatch
):
    api.http.headers.pop("Authorization")
    (page,) = [r.endpoint.__self__ for r in api.routes if r.path == "/graphiql"]
    monkeypatch.setattr(page, "_static", tmp_path)
    home = await api.http.get("/")
    assert (home.status_code, home.headers["location"]) == (307, "/graphiql")
    response = await api.http.get("/graphiql")
    assert "npm run build" in response.text
    (tmp_path / "assets").mkdir()
    (tmp_path / "graphiql.html").write_text("<html>built</html>")
    (tmp_path / "assets" / "a-1.js").write_text("1")
    (tmp_path / "secret").write_text("no")
    response = await api.http.get("/graphiql")
    assert (response.status_code, response.text) == (200, "<html>built</html>")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    asset = await api.http.get("/assets/a-1.js")
    assert asset.headers["cache-control"] == pages.FOR_EVER
    for path in ("/assets/none.js", "/assets/../secret", "/assets/%2e%2e/secret", "/assets/"):
        assert (await api.http.get(path)).status_code == 404, path


async def test_the_link_of_an_alert_leads_to_a_page(api):
    from uuid import uuid4

    from nomaflow.alerts.facts import run_url

    api.http.headers.pop("Authorization")
    response = await api.http.get(run_url(api.url, uuid4()))
    assert (response.status_code, response.headers["location"]) == (307, "/graphiql")
    assert (await api.http.get("/runs/nonsense")).status_code == 404


async def test_pages_travel_compressed_and_answers_never_do(api, tmp_path, monkeypatch):
    (page,) = [r.endpoint.__self__ for r in api.routes if r.path == "/runs/{run:uuid}"]
    monkeypatch.setattr(page, "_static", tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "a-1.js").write_text("let a = 1;\n" * 50_000)
    (tmp_path / "graphiql.html").write_text("<p>built</p>" * 1_000)
    for path, size in (("/assets/a-1.js", 550_000), ("/graphiql", 12_000)):
        asset = await api.http.get(path)
        assert asset.headers["content-encoding"] == "gzip"
        assert len(asset.content) == size
        assert "Accept-Encoding" in asset.headers["vary"]
        assert "script-src 'self'" in asset.headers["content-security-policy"]
        plain = await api.http.get(path, headers={"Accept-Encoding": "identity"})
        assert (plain.headers.get("content-encoding"), plain.text) == (None, asset.text)
    answer = await api.post("{ __schema { types { name fields { name } } } }")
    assert len(answer.content) > 5_000
    assert "content-encoding" not in answer.headers
