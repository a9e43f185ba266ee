import asyncio
import base64
import json
import ssl
from pathlib import Path
from urllib.parse import parse_qsl

import aws_signature
import pytest
from loopback import Loopback, as_json
from pydantic import ValidationError
from step_context import RealContext

from nomaflow.connectors import check, spec, trust
from nomaflow.connectors.http import oauth2
from nomaflow.connectors.http.auth import OAuth2Auth
from nomaflow.connectors.http.client import HttpClient, Request
from nomaflow.connectors.http.connector import HttpPolicy, HttpSettings
from nomaflow.errors import StepError
from nomaflow.job.spec import JobSpec, SpecErrors
from nomaflow.plugins.http import StepHttp
from nomaflow.project import connectors as connectors_toml
from nomaflow.project.connectors import Connectors
from nomaflow.steps import registry
from nomaflow.steps.http import HttpStep

SECRET = "s3cr+t/of=the client"


class Issuer:
    """A token endpoint and an API in one server; tokens are `token-1`, `token-2` ..."""

    def __init__(self, server):
        self.server = server
        self.issued = 0
        self.valid = None
        self.expires_in = 3600
        self.answer = None
        server.answer = self.serve

    async def serve(self, request):
        if request.target == "/token":
            await asyncio.sleep(0)
            if self.answer is not None:
                return self.answer
            self.issued += 1
            self.valid = f"token-{self.issued}"
            token = {"access_token": self.valid, "token_type": "bearer"}
            return as_json({**token, "expires_in": self.expires_in})
        good = request.header("authorization") == f"Bearer {self.valid}"
        return as_json({"n": len(self.server.received)}, 200 if good else 401)

    @property
    def fetches(self):
        return [request for request in self.server.received if request.target == "/token"]

    @property
    def calls(self):
        return [request for request in self.server.received if request.target != "/token"]


@pytest.fixture
def issuer(server):
    return Issuer(server)


def connector(server, **auth):
    told = {
        "type": "oauth2",
        "token_url": f"{server.url}/token",
        "client_id": "the client",
        "client_secret": SECRET,
    }
    return spec.parse({"kind": "http", "url": server.url, "auth": {**told, **auth}})


def step(**settings):
    return HttpStep.model_validate({"connector": "api", "url": "items", **settings})


async def test_one_token_serves_all_requests_until_it_expires(server, issuer, monkeypatch):
    context = RealContext({"api": connector(server)})
    now = [1000.0]
    monkeypatch.setattr(oauth2.time, "monotonic", lambda: now[0])
    async with context.stack:
        await asyncio.gather(*(step().run(context) for _ in range(20)))
        assert (len(issuer.fetches), len(issuer.calls)) == (1, 20)
        now[0] += 3500
        await step().run(context)
        assert len(issuer.fetches) == 1
        now[0] += 80  # less than half a minute before its end
        await step().run(context)
    assert len(issuer.fetches) == 2
    assert issuer.calls[-1].header("authorization") == "Bearer token-2"
    assert context.secrets == ["token-1", "token-2"]
    lines = str(context.log.lines)
    assert "token-1" not in lines
    assert SECRET not in lines


async def test_a_refused_token_is_renewed_once(server, issuer):
    context = RealContext({"api": connector(server)})
    async with context.stack:
        await step().run(context)
        issuer.valid = "another"
        result = await step(method="POST", body={"a": 1}).run(context)
        assert result.output["status"] == 200
        assert len(issuer.fetches) == 2
        assert [call.body for call in issuer.calls[-2:]] == [b'{"a": 1}'] * 2

        def never(request):
            if request.target == "/token":
                return as_json({"access_token": "no good", "expires_in": 60})
            return as_json({}, 401)

        server.answer = never
        server.received.clear()
        with pytest.raises(StepError) as caught:
            await step().run(context)
    assert caught.value.http_status == 401
    assert [request.target for request in server.received] == ["/items", "/token", "/items"]


async def test_many_refused_at_once_renew_it_once(server, issuer):
    context = RealContext({"api": connector(server)})
    async with context.stack:
        await step().run(context)
        issuer.valid = "another"
        await asyncio.gather(*(step().run(context) for _ in range(10)))
    assert len(issuer.fetches) == 2


async def test_the_client_shows_itself_as_it_was_told(server, issuer):
    plain = RealContext({"api": connector(server, scope="read write", audience="https://a")})
    await plain.run(step())
    (fetch,) = issuer.fetches
    assert fetch.method == "POST"
    assert fetch.header("content-type") == "application/x-www-form-urlencoded"
    # RFC 6749 section 2.3.1: each half is form-encoded before the two are joined.
    pair = base64.b64decode(fetch.header("authorization").removeprefix("Basic ")).decode()
    assert pair == "the+client:s3cr%2Bt%2Fof%3Dthe+client"
    assert dict(parse_qsl(fetch.body.decode())) == {
        "grant_type": "client_credentials",
        "scope": "read write",
        "audience": "https://a",
    }
    server.received.clear()
    auth = {"client_auth": "body", "scope": ["a", "b"], "params": {"resource": "r"}}
    await RealContext({"api": connector(server, **auth)}).run(step())
    (fetch,) = issuer.fetches
    assert fetch.header("authorization") is None
    assert dict(parse_qsl(fetch.body.decode())) == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "resource": "r",
        "client_id": "the client",
        "client_secret": SECRET,
    }


@pytest.mark.parametrize(
    ("answer", "words", "retryable"),
    [
        (
            as_json({"error": "invalid_client", "error_description": f"no {SECRET}"}, 401),
            "answered 401: invalid_client: no ***",
            False,
        ),
        ((500, {}, b"<html>"), "answered 500", True),
        (as_json({"error": "slow_down"}, 429), "answered 429: slow_down", True),
        (as_json({"token": "x"}), "without an `access_token`", False),
        (as_json(["x"]), "without an `access_token`", False),
        ((200, {}, b"no json"), "without an `access_token`", False),
        (as_json({"access_token": "x", "token_type": "mac"}), "'mac' tokens", False),
        ((302, {"Location": "/token"}, b""), "answered 302", False),
    ],
)
async def test_a_token_endpoint_that_refuses_is_told_without_the_secret(
    server, issuer, answer, words, retryable
):
    issuer.answer = answer
    context = RealContext({"api": connector(server)})
    with pytest.raises(StepError) as caught:
        await context.run(step())
    assert words in caught.value.message
    assert "the token endpoint http://127.0.0.1" in caught.value.message
    assert SECRET not in caught.value.message
    assert caught.value.retryable is retryable
    assert issuer.calls == []
    red = await check.connector("api", connector(server))
    assert not red.ok
    assert SECRET not in red.message


async def test_a_post_whose_token_did_not_come_was_not_sent_and_is_tried_again(server, issuer):
    issuer.answer = b"garbage\r\n\r\n"

    def recovers(message):
        issuer.answer = None

    context = RealContext({"api": connector(server)})
    context.log.warning = recovers
    tried = step(method="POST", retry_count=1, retry_delay_seconds=0)
    assert (await context.run(tried)).output["status"] == 200
    assert len(issuer.calls) == 1


async def test_a_token_endpoint_is_only_asked_where_requests_may_go(server, issuer):
    auth = connector(server).auth
    settings = HttpSettings("https://api.example.com", auth=auth, policy=HttpPolicy(False))
    async with HttpClient(settings) as client:
        with pytest.raises(StepError, match="SSRF_BLOCKED"):
            await client.send(Request("GET", "x"))
    assert server.received == []


async def test_a_token_goes_to_no_other_host(server, issuer):
    other = Loopback()
    await other.start()

    def redirect(request):
        if request.target == "/token":
            return as_json({"access_token": "token-1"})
        return 302, {"Location": other.url}, b""

    server.answer = redirect
    context = RealContext({"api": connector(server)})
    await context.run(step(follow_redirects=True))
    assert other.received[0].header("authorization") is None
    await other.stop()


async def test_a_header_of_the_step_is_left_alone(server, issuer):
    context = RealContext({"api": connector(server)})
    with pytest.raises(StepError):
        await context.run(step(headers={"authorization": "Bearer mine"}))
    assert issuer.fetches == []
    assert issuer.calls[0].header("authorization") == "Bearer mine"


async def test_a_function_of_a_plugin_gets_its_tokens_the_same_way(server, issuer):
    api = StepHttp(HttpSettings(server.url, auth=connector(server).auth))
    assert await api.get("items") == {"n": 2}
    assert await api.get("items") == {"n": 3}
    assert len(issuer.fetches) == 1


async def test_tokens_of_a_server_that_does_not_say_how_long_they_last_are_kept(server, issuer):
    assert oauth2.lifetime(None) == oauth2.UNTOLD_SECONDS
    assert oauth2.lifetime("3600") == 3570
    assert oauth2.lifetime(40) == 20
    assert oauth2.lifetime(0) == 0
    assert oauth2.lifetime(-5) == oauth2.UNTOLD_SECONDS
    assert oauth2.lifetime("soon") == oauth2.UNTOLD_SECONDS
    assert oauth2.lifetime(float("nan")) == oauth2.UNTOLD_SECONDS
    assert oauth2.lifetime(1e300) == oauth2.LONGEST_SECONDS


@pytest.mark.parametrize(
    ("service", "method", "url", "settings"),
    [
        ("execute-api", "GET", "items", {"query": {"b": "2 3", "a": ["x", "y/z"], "é": "ü"}}),
        ("execute-api", "POST", "items", {"body": {"text": "✅"}}),
        ("es", "GET", "a b/c:d/é", {}),
        ("es", "GET", "logs%2F2026/_search?q=a+b&empty=", {}),
        ("s3", "PUT", "bucket/a b//c+d.txt", {"body": "plain", "headers": {"X-Amz-Acl": "x"}}),
    ],
)
async def test_requests_are_signed_for_aws(server, service, method, url, settings):
    auth = {
        "type": "aws_sigv4",
        "access_key": "AKIDEXAMPLE",
        "secret_key": SECRET,
        "region": "eu-west-3",
        "service": service,
        "session_token": "a/session+token==",
    }
    told = spec.parse({"kind": "http", "url": server.url, "auth": auth})
    await RealContext({"api": told}).run(step(method=method, url=url, **settings))
    (request,) = server.received
    assert request.header("x-amz-security-token") == "a/session+token=="
    assert aws_signature.is_signed(request, SECRET, region="eu-west-3", service=service)
    assert not aws_signature.is_signed(request, "wrong", region="eu-west-3", service=service)
    request.body += b"!"
    assert not aws_signature.is_signed(request, SECRET, region="eu-west-3", service=service)


async def test_a_redirect_on_the_same_host_is_signed_anew(server):
    auth = {
        "type": "aws_sigv4",
        "access_key": "AKIDEXAMPLE",
        "secret_key": SECRET,
        "region": "eu-west-3",
        "service": "execute-api",
    }
    server.replies((307, {"Location": "/there?x=1"}, b""), (200, {}, b""))
    await RealContext().run(
        HttpStep.model_validate(
            {"url": server.url, "auth": auth, "method": "POST", "body": "b"}
            | {"follow_redirects": True}
        )
    )
    first, second = server.received
    assert second.target == "/there?x=1"
    for request in (first, second):
        assert aws_signature.is_signed(request, SECRET, region="eu-west-3", service="execute-api")


async def test_the_user_of_a_url_is_its_credentials_and_stays_out_of_every_word(server):
    context = RealContext()
    url = server.url.replace("//", "//us%40er:p%2Fw@")
    server.replies((302, {"Location": "/next"}, b""), (503, {}, b""))
    with pytest.raises(StepError) as caught:
        await context.run(HttpStep.model_validate({"url": url, "follow_redirects": True}))
    first, _second = server.received
    pair = base64.b64decode(first.header("authorization").removeprefix("Basic "))
    assert pair == b"us@er:p/w"
    assert first.header("host") == f"127.0.0.1:{server.port}"
    assert "p%2Fw" not in caught.value.message


async def test_credentials_with_letters_beyond_ascii_arrive_as_utf_8(server):
    auth = {"type": "bearer", "token": "jeton-é✓"}
    await RealContext().run(HttpStep.model_validate({"url": server.url, "auth": auth}))
    raw = server.received[0].header("authorization")
    assert raw.encode("latin-1").decode() == "Bearer jeton-é✓"


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "bearer", "token": "ses\name"},
        {"type": "api_key", "key": "ses\r\nX-B: ame"},
        {"type": "api_key", "key": "ses\x00ame"},
    ],
)
async def test_credentials_that_no_header_can_carry_are_told_without_being_repeated(server, auth):
    with pytest.raises(StepError, match="credentials hold a line break") as caught:
        await RealContext().run(HttpStep.model_validate({"url": server.url, "auth": auth}))
    assert not caught.value.retryable
    assert "ame" not in caught.value.message
    assert server.received == []


async def test_blanks_around_credentials_are_no_part_of_them(server):
    auth = {"type": "bearer", "token": "sesame \t"}
    step = {"url": server.url, "auth": auth, "headers": {"X-A": " b "}}
    await RealContext().run(HttpStep.model_validate(step))
    (request,) = server.received
    assert (request.header("authorization"), request.header("x-a")) == ("Bearer sesame", "b")


OAUTH = {
    "type": "oauth2",
    "token_url": "https://h/t",
    "client_id": "c",
    "client_secret": "${env:S}",
}
AWS = {
    "type": "aws_sigv4",
    "access_key": "a",
    "secret_key": "${env:S}",
    "region": "r",
    "service": "x",
}


@pytest.mark.parametrize(
    ("auth", "path", "words"),
    [
        ({"type": "kerberos"}, ("auth",), "oauth2"),
        ({"type": "bearer"}, ("auth", "token"), ""),
        ({"type": "bearer", "token": ""}, ("auth", "token"), ""),
        ({"type": "bearer", "token": "${env:T}", "tokne": "t"}, ("auth", "tokne"), ""),
        (
            {"type": "basic", "username": "a:b", "password": "${env:P}"},
            ("auth", "username"),
            "colon",
        ),
        ({"type": "api_key", "key": "${env:K}", "name": "a b"}, ("auth", "name"), "header"),
        ({"type": "api_key", "key": "${env:K}", "in": "cookie"}, ("auth", "in"), ""),
        ({**OAUTH, "token_url": "h/t"}, ("auth", "token_url"), "absolute"),
        ({**OAUTH, "params": {"scope": "x"}}, ("auth", "params"), "scope"),
        ({**OAUTH, "client_auth": "jwt"}, ("auth", "client_auth"), ""),
        ({name: OAUTH[name] for name in OAUTH if name != "client_id"}, ("auth", "client_id"), ""),
        ({name: AWS[name] for name in AWS if name != "region"}, ("auth", "region"), ""),
        ("token", ("auth",), ""),
    ],
)
def test_wrong_credentials_are_refused_when_they_are_read(auth, path, words):
    assert words in str(registry.problems("http", {"url": "https://h", "auth": auth}))
    job = {"name": "j", "steps": [{"name": "s", "type": "http", "url": "https://h", "auth": auth}]}
    with pytest.raises(SpecErrors) as caught:
        JobSpec.parse(job)
    assert [problem.path for problem in caught.value.problems] == [("steps", "0", *path)]
    table = {"connectors": {"api": {"kind": "http", "url": "https://h", "auth": auth}}}
    read = connectors_toml.read(_toml(table), "connectors.toml", Connectors())
    assert len(read.problems) == 1
    assert read.problems[0].path[: 2 + len(path)] == ("connectors", "api", *path)
    assert read.problems[0].line == 4
    assert words in str(read.problems)
    with pytest.raises(ValidationError):
        spec.parse(table["connectors"]["api"])


def test_whole_credentials_are_accepted():
    for auth in (OAUTH, {**OAUTH, "scope": "a b", "client_auth": "body"}, AWS):
        assert registry.problems("http", {"url": "https://h", "auth": auth}) == []
    assert "S}" not in repr(OAuth2Auth.model_validate(OAUTH))


def _toml(value):
    lines = []
    for name, table in value["connectors"].items():
        lines.append(f"[connectors.{name}]")
        lines += [f"{key} = {_inline(part)}" for key, part in table.items()]
    return "\n".join(lines).encode()


def _inline(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(part)}" for key, part in value.items()) + " }"
    return json.dumps(value)


async def test_tls_with_an_authority_of_ones_own(server):
    pem = Path(__file__).with_name("self_signed.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    await server.stop()
    await server.start(ssl=tls)
    told = {"kind": "http", "url": server.url}
    trusting = spec.parse({**told, "ca_file": str(pem)})
    result = await RealContext({"api": trusting}).run(step())
    assert result.output["status"] == 200
    assert (await check.connector("api", trusting)).ok
    with pytest.raises(StepError, match="CERTIFICATE_VERIFY_FAILED"):
        await RealContext({"api": spec.parse(told)}).run(step())
    elsewhere = spec.parse(
        {**told, "url": server.url.replace("127.0.0.1", "localhost"), "ca_file": str(pem)}
    )
    with pytest.raises(StepError, match=r"CERTIFICATE_VERIFY_FAILED.*[Hh]ostname"):
        await RealContext({"api": elsewhere}).run(step())
    assert trust.context().minimum_version >= ssl.TLSVersion.TLSv1_2
    missing = spec.parse({**told, "ca_file": "/no/such.pem"})
    with pytest.raises(StepError, match=r"ca_file = '/no/such\.pem' cannot be read: No such file"):
        await RealContext({"api": missing}).run(step())
