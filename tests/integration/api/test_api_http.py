"""GraphQL over HTTP: who may ask, in which forms, and what is refused before anything runs."""

import json
import time

from nomaflow_api.doors import documents
from nomaflow_api.doors.failures import ApiCode

ASK = "{ viewer { name permissions } }"
INTROSPECT = "{ __schema { types { name } } }"
GRAPHQL = "application/graphql-response+json"


async def test_the_admin_token_may_do_everything(api):
    viewer = (await api.query(ASK))["viewer"]
    assert viewer == {"name": "admin", "permissions": ["SEE", "RUN", "EDIT", "ABORT", "ADMIN"]}


STRANGERS = (
    None,
    "",
    "Bearer",
    "Bearer wrong-token-of-some-length",
    "Basic a-token-for-tests-0123456789",
    "a-token-for-tests-0123456789",
    "Bearer a-token-for-tests-0123456789 and more",
    "Bearer " + "x" * 10_000,
)


async def test_whoever_shows_no_token_of_ours_gets_one_and_the_same_answer(api):
    api.http.headers.pop("Authorization")
    answers = set()
    for shown in STRANGERS:
        headers = {} if shown is None else {"Authorization": shown}
        for query in (
            ASK,
            "mutation { jobDelete(name: 1) { name } }",
            "{ __schema { types { name } } }",
            "{",
        ):
            response = await api.http.post("/graphql", json={"query": query}, headers=headers)
            assert response.status_code == 401, shown
            assert response.headers["www-authenticate"] == "Bearer"
            answers.add(response.text)
    assert len(answers) == 1
    assert json.loads(answers.pop())["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_token_in_the_address_opens_nothing(api):
    token = api.http.headers.pop("Authorization").split()[1]
    for name in ("token", "access_token", "authorization"):
        response = await api.http.get("/graphql", params={"query": ASK, name: token})
        assert response.status_code == 401


# ---------------------------------------------------------------- forms of an answer


FORMS = (
    (None, "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/json", "application/json"),
    (GRAPHQL, GRAPHQL),
    (f"{GRAPHQL}, application/json;q=0.9", GRAPHQL),
    (f"{GRAPHQL};q=0.1, application/json", "application/json"),
)


async def test_the_answer_comes_in_the_form_asked_for(api):
    api.http.headers.pop("Accept")
    for accept, form in FORMS:
        response = await api.post(ASK, **({"Accept": accept} if accept else {}))
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{form}; charset=utf-8", accept
        assert response.headers["vary"] == "Accept"


async def test_what_we_do_not_speak_is_not_acceptable(api):
    response = await api.post(ASK, Accept="text/html")
    assert response.status_code == 406
    assert (await api.post(ASK, Accept="application/json;q=0")).status_code == 406


REQUEST_ERRORS = (
    ("{", ApiCode.GRAPHQL_PARSE_FAILED),
    ("{ nothing }", ApiCode.GRAPHQL_VALIDATION_FAILED),
    ("query ($id: ID!) { run(id: $id) { id } }", ApiCode.BAD_USER_INPUT),
    ("query A { viewer { name } } query B { viewer { name } }", ApiCode.BAD_USER_INPUT),
)


async def test_a_request_error_has_no_data_and_its_own_status(api):
    for query, code in REQUEST_ERRORS:
        plain, strict = await api.post(query), await api.post(query, Accept=GRAPHQL)
        assert (plain.status_code, strict.status_code) == (200, 400), query
        for answer in (plain.json(), strict.json()):
            assert list(answer) == ["errors"]
            assert answer["errors"][0]["extensions"]["code"] == code


async def test_a_misspelt_field_gets_no_hint(api):
    (error,) = await api.errors("{ jbs { nodes { name } } }")
    assert error == ("GRAPHQL_VALIDATION_FAILED", "Cannot query field 'jbs' on type 'Query'.")


async def test_queries_may_come_by_get_and_mutations_may_not(api):
    response = await api.http.get("/graphql", params={"query": ASK})
    assert response.json()["data"]["viewer"]["name"] == "admin"
    response = await api.http.get(
        "/graphql", params={"query": 'mutation { jobDelete(name: "x") { name } }'}
    )
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        response = await api.http.request(method, "/graphql")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")


async def test_a_subscription_by_plain_post_is_refused_with_the_way_to_go(api):
    response = await api.post("subscription { jobsChanged { name } }")
    assert response.status_code == 406
    assert "graphql-transport-ws" in response.json()["errors"][0]["message"]


async def test_what_a_form_on_another_page_can_send_is_not_read(api):
    body = json.dumps({"query": ASK})
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/json; charset=utf-16",
    ):
        response = await api.http.post("/graphql", content=body, headers={"Content-Type": kind})
        assert response.status_code == 415, kind


# ---------------------------------------------------------------- bodies nobody should fall over

BODIES = {
    "nested": b'{"query": "{viewer{name}}", "variables": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "null": b"null",
    "number": b"5",
    "text": b'"x"',
    "batch": b'[{"query": "{viewer{name}}"}]',
    "empty": b"",
    "not utf-8": b'{"query": "\xff\xfe"}',
    "utf-16": '{"query": "{viewer{name}}"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + b'{"query": "{viewer{name}}"}',
    "long integer": b'{"query": "{viewer{name}}", "variables": {"a": ' + b"1" * 5_000 + b"}}",
    "NaN": b'{"query": "{viewer{name}}", "variables": {"a": NaN}}',
    "infinity": b'{"query": "{viewer{name}}", "variables": {"a": 1e400}}',
    "NUL": b'{"query": "{viewer{name}}", "variables": {"a": "\\u0000"}}',
    "surrogate": b'{"query": "{viewer{name}}", "variables": {"a": "\\ud800"}}',
    "no query": b"{}",
    "query is a number": b'{"query": 5}',
    "variables are a list": b'{"query": "{viewer{name}}", "variables": []}',
    "name is a number": b'{"query": "{viewer{name}}", "operationName": 5}',
    "unknown operation": b'{"query": "{viewer{name}}", "operationName": "x"}',
    "broken": b'{"query": ',
}


async def test_a_body_that_is_no_request_is_a_bad_request(api):
    kind = {"Content-Type": "application/json"}
    for name, body in BODIES.items():
        response = await api.http.post("/graphql", content=body, headers=kind)
        assert response.status_code == 400, (name, response.text)
        assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT", name


async def test_text_that_cannot_be_stored_is_refused_in_a_document_too(api):
    for text in ("\\u0000", "\\ud800"):
        ((code, _),) = await api.errors(f'{{ job(name: "{text}") {{ name }} }}')
        assert code in {"BAD_USER_INPUT", "GRAPHQL_PARSE_FAILED"}


async def test_a_body_over_one_mebibyte_is_too_large(api):
    body = b'{"query": "{viewer{name}}", "variables": {"a": "' + b"x" * 2_000_000 + b'"}}'
    kind = {"Content-Type": "application/json"}

    async def in_chunks():
        for _ in range(40):
            yield b" " * 65_536

    for content in (body, in_chunks()):
        response = await api.http.post("/graphql", content=content, headers=kind)
        assert response.status_code == 413
        assert response.headers["connection"] == "close"
    response = await api.http.post(
        "/graphql", content=b"x", headers={**kind, "Content-Encoding": "gzip"}
    )
    assert response.status_code == 415


# ---------------------------------------------------------------- documents nobody should run

DEEP = "{ jobs { nodes " + "{ lastRun { job " * 5 + "{ lastRun { id } }" + " } }" * 5 + " } }"
FAN = (
    "query { ...A0 } "
    + " ".join(f"fragment A{n} on Query {{ ...A{n + 1} ...A{n + 1} }}" for n in range(100))
    + " fragment A100 on Query { a: viewer { name } }"
)
AMPLIFIED = (
    "{ jobs { nodes { "
    + " ".join("...A" for _ in range(14))
    + " } } } fragment A on Job { "
    + " ".join(f"a{n}: name" for n in range(14))
    + " }"
)
DOCUMENTS = {
    "deep": (DEEP, ApiCode.DEPTH_LIMIT),
    "aliases": (
        "{" + " ".join(f"a{n}: viewer {{ name }}" for n in range(16)) + "}",
        ApiCode.ALIAS_LIMIT,
    ),
    "fragments that double": (FAN, ApiCode.ALIAS_LIMIT),
    "aliases in a fragment": (AMPLIFIED, ApiCode.ALIAS_LIMIT),
    "repeated field": ("{ viewer {" + " name" * 20_000 + "} }", ApiCode.TOKEN_LIMIT),
    "directives": ("{ viewer {" + " name @include(if: true)" * 10_000 + "} }", ApiCode.TOKEN_LIMIT),
    "circle": (
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
        ApiCode.GRAPHQL_VALIDATION_FAILED,
    ),
    "mutations": (
        "mutation {" + " ".join(f'a{n}: jobDelete(name: "{n}") {{ name }}' for n in range(6)) + "}",
        ApiCode.COST_LIMIT,
    ),
    "lists in lists": (
        "{ jobs(first: 100) { nodes { runs(first: 100) { nodes { steps { name } } } } } }",
        ApiCode.COST_LIMIT,
    ),
    "lists by variable": (
        """query ($n: Int = 100) { jobs(first: $n) { edges { node {
             runs(last: $n) { nodes { id } } } } } }""",
        ApiCode.COST_LIMIT,
    ),
    "heavy outputs": (
        "{"
        + " ".join(
            f"a{n}: runs(first: 100) {{ nodes {{ steps {{ input output }} }} }}" for n in range(10)
        )
        + "}",
        ApiCode.COST_LIMIT,
    ),
}


async def test_a_document_that_asks_too_much_is_refused_before_it_runs(api):
    for name, (document, code) in DOCUMENTS.items():
        started = time.perf_counter()
        response = await api.post(document)
        took = time.perf_counter() - started
        (error, *_) = response.json()["errors"]
        assert error["extensions"]["code"] == code, name
        assert "data" not in response.json()
        assert took < 1, name


async def test_the_lists_people_use_are_not_too_much(api):
    await api.query(
        """{ runs(first: 100) { edges { cursor node { id status job { name } steps {
             position name type status startedAt finishedAt summary rowsAffected } } }
             pageInfo { hasNextPage endCursor } } }"""
    )
    await api.query("{ jobs(first: 100) { nodes { name lastRun { status steps { status } } } } }")
    await api.query("query ($n: Int) { runs(first: $n) { nodes { id } } }", n=100)


# ---------------------------------------------------------------- faults and limits of time


async def test_what_was_not_written_for_the_caller_is_not_shown(api, monkeypatch, caplog):
    from nomaflow.store import jobs

    async def broken(*_):
        raise RuntimeError("postgresql://user:secret@host/db fell over")

    monkeypatch.setattr(jobs, "find", broken)
    response = await api.post('{ job(name: "x") { name } }')
    (error,) = response.json()["errors"]
    assert error["message"] == "Internal error"
    assert error["extensions"]["code"] == "INTERNAL"
    assert len(error["extensions"]["errorId"]) == 12
    assert "secret" not in response.text


async def test_a_query_that_takes_too_long_is_cut_off_in_the_database_too(api, monkeypatch):
    from nomaflow.store import jobs

    async def slow(db, _name):
        await db.fetchval("SELECT pg_sleep(30) /* slow */")

    monkeypatch.setattr(jobs, "find", slow)
    monkeypatch.setattr(documents, "QUERY_SECONDS", 0.2)
    ((code, _),) = await api.errors('{ job(name: "x") { name } }')
    assert code == "TIMEOUT"
    busy = await api.db.fetchval(
        """SELECT count(*) FROM pg_stat_activity
           WHERE query LIKE '%/* slow */' AND state = 'active' AND pid <> pg_backend_pid()"""
    )
    assert busy == 0


async def test_every_answer_carries_the_headers_that_keep_browsers_careful(api):
    for path in ("/graphql", "/health", "/nowhere"):
        headers = (await api.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert not [name for name in headers if name.startswith("access-control")]


async def test_a_caller_without_the_permission_is_refused(api, monkeypatch):
    from nomaflow_api.auth import Doorkeeper, Permission, Principal

    weak = Principal("reader", "service", frozenset({Permission.SEE}))
    monkeypatch.setattr(Doorkeeper, "admit", lambda *_: weak)
    ((code, message),) = await api.errors('mutation { runTrigger(input: {job: "x"}) { created } }')
    assert (code, message) == ("FORBIDDEN", "This needs the permission `run`.")
