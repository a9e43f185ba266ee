"""HTTP steps as a worker runs them: shared clients, secrets, keys, the files of the project."""

import asyncio
import json
import shutil
import ssl
import time
from pathlib import Path

import pytest
from loopback import as_json
from workshop import working

from nomaflow import dispatch

PEM = Path(__file__).with_name("self_signed.pem")
KEPT = {"Connection": "keep-alive"}


@pytest.fixture
async def worker(shop):
    async with working(shop) as supervisor:
        yield supervisor


def connectors(server, more=""):
    return f"""
    [connectors.api]
    kind = "http"
    url = "{server.url}/v1"
    {more}
    """


OAUTH = """
    auth.type = "oauth2"
    auth.token_url = "{url}/token"
    auth.client_id = "c"
    auth.client_secret = "${{env:S}}"
"""


def issuing(server):
    """Serve tokens, and an API that repeats the one it was asked with."""

    def answer(request):
        if request.target == "/token":
            number = sum(one.target == "/token" for one in server.received)
            token = {"access_token": f"issued-token-{number}", "expires_in": 3600}
            return 200, {"Content-Type": "application/json", **KEPT}, json.dumps(token).encode()
        seen = json.dumps({"seen": request.header("authorization")}).encode()
        return 200, {"Content-Type": "application/json", **KEPT}, seen

    server.answer = answer


JOB = """
    [[jobs]]
    name = "j"

    [[jobs.steps]]
    name = "fetch"
    type = "http"
    connector = "api"
    url = "items"

    [[jobs.steps]]
    name = "tell"
    type = "http"
    connector = "api"
    url = "told"
    method = "POST"
    body = { seen = "${out:fetch.body.seen}" }
"""


async def test_runs_share_a_token_that_history_never_shows(shop, worker, server):
    issuing(server)
    toml = connectors(server, OAUTH.format(url=server.url))
    await shop.declare(JOB, **{"connectors.toml": toml, ".env": "S=sesame-street\n"})
    for _ in range(3):
        run = await shop.run("j")
        assert run["status"] == "succeeded", run["error"]
    targets = [request.target for request in server.received]
    assert targets == ["/token", *["/v1/items", "/v1/told"] * 3]
    assert server.connections == 1
    # The next step got the value whole ...
    assert b"Bearer issued-token-1" in server.received[-1].body
    # ... and nothing that is kept has it.
    kept = str([await shop.steps(run["id"]), await shop.lines(run["id"]), run])
    assert "issued-token" not in kept
    assert "sesame-street" not in kept
    assert "Bearer ***" in kept
    (shop.root / ".env").write_text("S=another-secret\n")
    await shop.run("j")
    assert [request.target for request in server.received].count("/token") == 2


async def test_the_key_of_a_post_is_the_runs_and_the_same_in_every_try(shop, worker, server):
    server.replies((500, {}, b""), as_json({}), as_json({}))
    await shop.declare(
        f"""
        [[jobs]]
        name = "j"
        [jobs.retry]
        attempts = 2
        base_seconds = 0.05
        [[jobs.steps]]
        name = "create it"
        type = "http"
        url = "{server.url}"
        method = "POST"
        body = {{ a = 1 }}
        """
    )
    first, second = await shop.run("j"), await shop.run("j")
    keys = [request.header("idempotency-key") for request in server.received]
    assert keys == [f"{first['id']}:create it"] * 2 + [f"{second['id']}:create it"]


async def test_an_abort_ends_a_body_that_never_ends(shop, worker, server):
    reached = asyncio.Event()

    async def endless(_request):
        writer = server.writer
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        reached.set()
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    server.answer = endless
    server.closed.clear()
    await shop.declare(
        f"""
        [[jobs]]
        name = "j"
        [[jobs.steps]]
        name = "pull"
        type = "http"
        url = "{server.url}"
        """
    )
    run_id = await shop.trigger("j")
    await asyncio.wait_for(reached.wait(), 10)
    started = time.monotonic()
    await dispatch.abort(shop.db, shop.bell, run_id, by="user:tester")
    assert (await shop.end(run_id))["status"] == "aborted"
    assert time.monotonic() - started < 2
    await asyncio.wait_for(server.closed.wait(), 2)


async def test_a_certificate_is_found_beside_the_project_by_steps_and_functions(
    shop, worker, server
):
    await server.stop()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(PEM)
    await server.start(ssl=tls)
    issuing(server)
    shutil.copy(PEM, shop.root / "ca.pem")
    toml = connectors(server, OAUTH.format(url=server.url) + '    ca_file = "ca.pem"')
    await shop.declare(
        """
        [[jobs]]
        name = "j"
        [[jobs.steps]]
        name = "fetch"
        type = "http"
        connector = "api"
        url = "items"
        [[jobs.steps]]
        name = "call"
        type = "python"
        callable = "app.calls:call"
        """,
        **{
            "connectors.toml": toml,
            ".env": "S=sesame-street\n",
            "plugins/app/calls.py": """
            async def call(ctx, **_):
                api = ctx.get_connector("api")
                first = await api.get("items")
                second = await api.post("items", json={"a": 1})
                try:
                    await ctx.http.get("http://169.254.169.254/latest")
                    refused = None
                except Exception as error:
                    refused = str(error)
                return {"same": first == second, "length": len(first["seen"]), "refused": refused}
            """,
        },
    )
    run = await shop.run("j")
    assert run["status"] == "succeeded", run["error"]
    output = (await shop.steps(run["id"]))[1]["output"]
    assert (output["same"], output["length"]) == (True, len("Bearer issued-token-2"))
    assert "SSRF_BLOCKED" in output["refused"]
    targets = [request.target for request in server.received]
    assert targets == ["/token", "/v1/items", "/token", "/v1/items", "/v1/items"]


async def test_a_value_of_a_connector_that_turns_out_wrong_is_told_without_it(shop, worker, server):
    toml = connectors(server, 'timeout_seconds = "${env:S}"')
    await shop.declare(JOB, **{"connectors.toml": toml, ".env": "S=sesame-street\n"})
    run = await shop.run("j")
    assert run["status"] == "failed"
    assert "connector `api`: `timeout_seconds" in run["error"]["message"]
    assert "sesame" not in str(run)


async def test_a_steps_time_covers_the_body_and_a_try_that_ran_out_of_it_is_tried_again(
    shop, worker, server
):
    async def drip(_request):
        server.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            server.writer.write(b"x")
            await server.writer.drain()
            await asyncio.sleep(0.05)

    server.answer = drip
    await shop.declare(
        f"""
        [[jobs]]
        name = "j"
        [jobs.retry]
        attempts = 2
        base_seconds = 0.05
        [[jobs.steps]]
        name = "pull"
        type = "http"
        url = "{server.url}"
        timeout_seconds = 1
        """
    )
    run = await shop.run("j")
    assert (run["status"], run["error"]["category"]) == ("failed", "timeout")
    assert "timeout after 1 s" in run["error"]["message"]
    assert len(server.received) == 2


async def test_a_large_body_reaches_the_next_step_whole_and_history_as_a_preview(
    shop, worker, server
):
    items = [{"id": number, "text": "x" * 1000} for number in range(2000)]
    server.replies(as_json(items))
    await shop.declare(
        f"""
        [[jobs]]
        name = "j"
        [[jobs.steps]]
        name = "fetch"
        type = "http"
        url = "{server.url}"
        [[jobs.steps]]
        name = "send on"
        type = "http"
        method = "PUT"
        url = "{server.url}"
        body = "${{out:fetch.body}}"
        """
    )
    run = await shop.run("j")
    assert run["status"] == "succeeded", run["error"]
    assert json.loads(server.received[1].body) == items
    fetched = (await shop.steps(run["id"]))[0]
    assert fetched["summary"] == "status=200 · body=2000 items"
    assert len(json.dumps(fetched["output"])) < 70_000
