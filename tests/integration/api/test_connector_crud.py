"""Connectors made through the API: declared, changed, tested, used, deleted, never told."""

import asyncio
import base64
import json
import subprocess
from urllib.parse import quote, urlsplit

import pytest
from workshop import SECRET_KEY, working, workshop

from nomaflow.embedded import wheels
from nomaflow.errors import NomaflowError
from nomaflow.in_force import catalog, connector_changes
from nomaflow.store import connectors
from nomaflow.vault import Vault

CREATE = """mutation ($input: ConnectorInput!) { connectorCreate(input: $input) {
  connector { name kind origin settings secretNames revision queries { name operation } jobs }
  errors { code message path } } }"""
UPDATE = """mutation ($input: ConnectorInput!, $revision: Int) {
  connectorUpdate(input: $input, expectedRevision: $revision) {
  connector { settings secretNames revision } errors { code message path } } }"""
DELETE = """mutation ($name: String!) { connectorDelete(name: $name) {
  deleted errors { code message path } } }"""
TEST = """mutation ($name: String!) { connectorTest(name: $name) {
  test { ok milliseconds message } errors { code message path } } }"""
SHOW = """query ($name: String!) { connector(name: $name) {
  name kind origin settings secretNames revision queries { name sql params } jobs } }"""
JOB = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""

CANARY = "c4nary/pässword+with=odd&signs%"
SQL = {
    "name": "shop",
    "kind": "sql",
    "settings": {"driver": "mysql", "host": "db.example.org", "user": "me", "pool_size": 2},
    "secrets": {"password": CANARY},
    "queries": {"add": {"operation": "write", "sql": "INSERT INTO t VALUES (:a)"}},
}
HTTP = {
    "name": "api",
    "kind": "http",
    "settings": {
        "url": "https://api.example.org/v1",
        "headers": {"X-Tenant": "acme", "X-Api-Key": "${secret:key}"},
        "auth": {"type": "bearer", "token": "${secret:token}"},
    },
    "secrets": {"key": "a-key-of-an-api", "token": "a-token-of-an-api"},
}


async def made(api, given):
    answer = (await api.query(CREATE, input=given))["connectorCreate"]
    assert answer["errors"] == []
    return answer["connector"]


async def refused(api, query, field, **variables):
    answer = (await api.query(query, **variables))[field]
    return [(e["code"], e["path"], e["message"]) for e in answer["errors"]]


async def test_what_is_made_is_shown_without_its_secrets(api):
    assert await made(api, SQL) == {
        "name": "shop",
        "kind": "sql",
        "origin": "API",
        "settings": {**SQL["settings"], "password": "${secret:password}"},
        "secretNames": ["password"],
        "revision": 1,
        "queries": [{"name": "add", "operation": "write"}],
        "jobs": [],
    }
    shown = await made(api, HTTP)
    assert shown["settings"]["headers"] == {"X-Tenant": None, "X-Api-Key": "${secret:key}"}
    assert shown["secretNames"] == ["key", "token"]
    answer = await api.query("{ connectors { name } }")
    assert [c["name"] for c in answer["connectors"]] == ["api", "default", "shop"]


async def test_a_directory_s_password_goes_without_saying_where(api):
    settings = {"url": "ldaps://ldap.example.org", "bind_dn": "cn=reader,dc=example,dc=org"}
    directory = {"name": "people", "kind": "ldap", "settings": settings}
    shown = await made(api, {**directory, "secrets": {"bind_password": CANARY}})
    assert shown["settings"] == {**settings, "bind_password": "${secret:bind_password}"}
    moved = {**directory, "settings": {**settings, "url": "ldaps://evil.example.org"}}
    ((code, path, _),) = await refused(api, UPDATE, "connectorUpdate", input=moved)
    assert (code, path) == ("INVALID", ["secrets"])


async def test_a_change_keeps_the_secrets_that_are_not_given_again(api):
    await made(api, SQL)
    changed = {**SQL, "settings": {**SQL["settings"], "pool_size": 7}, "queries": None}
    del changed["secrets"]
    answer = (await api.query(UPDATE, input=changed, revision=1))["connectorUpdate"]
    assert answer["errors"] == []
    assert answer["connector"]["settings"]["pool_size"] == 7
    assert (answer["connector"]["secretNames"], answer["connector"]["revision"]) == (
        ["password"],
        2,
    )
    ((code, path, words),) = await refused(
        api, UPDATE, "connectorUpdate", input=changed, revision=1
    )
    assert (code, path) == ("CONFLICT", ["expectedRevision"])
    assert "at revision 2, not 1" in words
    # A null takes a secret away; the setting that names it then names nothing.
    settings = {**SQL["settings"], "password": "${secret:password}"}
    gone = {**changed, "settings": settings, "secrets": {"password": None}}
    ((code, path, words),) = await refused(api, UPDATE, "connectorUpdate", input=gone)
    assert (code, path) == ("INVALID", ["secrets", "password"])
    without = {**changed, "secrets": {"password": None}}
    assert (await api.query(UPDATE, input=without))["connectorUpdate"]["connector"] == {
        "settings": changed["settings"],
        "secretNames": [],
        "revision": 3,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example.org"},
        {"port": 4444},
        {"driver": "postgresql"},
        {"host": None, "url": "mysql://me:${secret:password}@evil.example.org/d"},
    ],
)
async def test_a_secret_is_bound_to_the_place_it_was_given_for(api, change):
    await made(api, SQL)
    settings = {k: v for k, v in {**SQL["settings"], **change}.items() if v is not None}
    if "url" in settings:
        settings = {"url": settings["url"]}
    moved = {"name": "shop", "kind": "sql", "settings": settings}
    ((code, path, words),) = await refused(api, UPDATE, "connectorUpdate", input=moved)
    assert (code, path) == ("INVALID", ["secrets"])
    assert "give `password` again" in words
    again = {**moved, "secrets": {"password": "another-password"}}
    assert await refused(api, UPDATE, "connectorUpdate", input=again) == []


async def test_a_token_url_is_where_a_secret_goes_too(api):
    auth = {
        "type": "oauth2",
        "token_url": "https://login.example.org/token",
        "client_id": "me",
        "client_secret": "${secret:client}",
    }
    oauth = {
        "name": "api",
        "kind": "http",
        "settings": {"url": "https://api.example.org", "auth": auth},
    }
    await made(api, {**oauth, "secrets": {"client": "a-secret-of-a-client"}})
    moved = {**auth, "token_url": "https://evil.example.org/token"}
    settings = {"url": "https://api.example.org", "auth": moved}
    assert await refused(api, UPDATE, "connectorUpdate", input={**oauth, "settings": settings})


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"name": "a b"}, ["name"], "1 to 128 letters"),
        ({"name": ""}, ["name"], "1 to 128 letters"),
        ({"kind": "ftp"}, ["kind"], "must be one of"),
        ({"settings": {"hots": "x"}}, ["settings", "hots"], "did you mean `host`"),
        ({"settings": {"url": "mysql://h", "host": "x"}}, ["settings"], "not both"),
        ({"settings": {"url": "mysql://h", "kind": "sql"}}, ["settings", "kind"], "beside"),
        ({"settings": []}, ["settings"], "must be a table"),
        ({"settings": {"url": "mysql://u:plain@h/d"}}, ["settings", "url"], "holds a password"),
        (
            {"settings": {"driver": "mysql", "password": "plain"}},
            ["settings", "password"],
            "${secret:password}",
        ),
        ({"settings": {"url": "mysql://${kw:h}"}}, ["settings", "url"], "knows no run"),
        ({"settings": {"url": "mysql://${secret:x}@h"}}, ["secrets", "x"], "no secret `x`"),
        ({"secrets": {"other": "long-enough"}}, ["secrets", "other"], "would not be used"),
        ({"secrets": {"password": "abc"}}, ["secrets", "password"], "4 to 65536 characters"),
        ({"secrets": {"password": 12345}}, ["secrets", "password"], "must be text"),
        ({"secrets": {"a b": "long-enough"}}, ["secrets", "a b"], "a secret's name"),
        ({"secrets": ["x"]}, ["secrets"], "must be a table"),
        ({"queries": {"q": {"sql": "SELECT $1, ?, :1"}}}, ["queries", "q"], "as `:name`"),
        ({"queries": {"q": {"operation": "read"}}}, ["queries", "q", "sql"], "missing"),
        ({"settings": {"driver": "mysql", "description": "x" * 70_000}}, ["settings"], "larger"),
    ],
)
async def test_what_is_wrong_is_said_with_its_place(api, change, path, words):
    given = {"name": "x", "kind": "sql", "settings": {"driver": "mysql"}, **change}
    found = await refused(api, CREATE, "connectorCreate", input=given)
    assert [(p[: len(path)], words in m) for _, p, m in found][:1] == [(path, True)], found
    assert await connectors.some(api.db) == []


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("http", {"url": "http://169.254.169.254/latest"}),
        ("http", {"url": "http://metadata.google.internal/"}),
        ("http", {"url": "http://2852039166/"}),
        ("sql", {"url": "postgresql://169.254.169.254/d"}),
        ("sql", {"url": "postgresql://a,169.254.169.254/d"}),
        ("sql", {"url": "postgresql:///d?host=169.254.169.254"}),
        ("sql", {"driver": "mysql", "host": "fd00:ec2::254"}),
        ("ldap", {"url": "ldap://169.254.169.254"}),
        ("sql", {"url": "sqlite:////etc/passwd"}),
        ("sql", {"url": "sqlite:///../other/a.db"}),
        ("sql", {"driver": "sqlite", "database": "/etc/passwd"}),
        ("sql", {"driver": "mysql", "ca_file": "../../etc/ssl/private/key.pem"}),
        ("sql", {"url": "postgresql://h/d?sslrootcert=/etc/passwd"}),
    ],
)
async def test_metadata_and_files_elsewhere_are_out_of_reach(api, project, kind, settings):
    given = {"name": "x", "kind": kind, "settings": settings}
    ((code, path, _),) = await refused(api, CREATE, "connectorCreate", input=given)
    assert (code, path) == ("FORBIDDEN", ["settings"])
    # The same when only `.env` says where it leads.
    if kind == "http":
        (project / ".env").write_text(f"WHERE={settings['url']}\n")
        await made(api, {"name": "y", "kind": "http", "settings": {"url": "${env:WHERE}"}})
        ((code, _, words),) = await refused(api, TEST, "connectorTest", name="y")
        assert (code, "never reached" in words) == ("FORBIDDEN", True)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\x00b"},
        {"settings": {"driver": "mysql", "description": "a\x00b"}},
        {"settings": {"driver": "mysql", "description": "a\ud800b"}},
        {"secrets": {"password": "a\x00bcdef"}},
        {"secrets": {"password": "a\ud800bcdef"}},
        {"queries": {"q\x00": {"sql": "SELECT 1"}}},
        {"queries": {"q": {"sql": "SELECT 1", "description": "\ud800"}}},
        {"settings": {"driver": "mysql", "a": [[[[[[[[[[1]]]]]]]]]]}},
        {"settings": {"driver": "mysql", "pool_size": 10**30}},
        {"settings": {"driver": ["mysql"]}},
    ],
)
async def test_hostile_input_is_refused_and_nothing_is_kept(api, change):
    given = {"name": "x", "kind": "sql", "settings": {"driver": "mysql"}, **change}
    body = json.dumps({"query": CREATE, "variables": {"input": given}})  # \\ud800, as JSON lets one
    response = await api.http.post(
        "/graphql", content=body, headers={"Content-Type": "application/json"}
    )
    answer = response.json()
    assert response.status_code in {200, 400}
    if "errors" in answer:
        assert [e["extensions"]["code"] for e in answer["errors"]] == ["BAD_USER_INPUT"]
    else:
        assert answer["data"]["connectorCreate"]["errors"]
    assert await connectors.some(api.db) == []


async def test_a_file_comes_first(api, project):
    (project / "connectors.toml").write_text('[connectors.ops]\nkind = "sql"\nurl = "mysql://h"\n')
    ops = {**SQL, "name": "ops"}
    for query, field, variables in (
        (CREATE, "connectorCreate", {"input": ops}),
        (UPDATE, "connectorUpdate", {"input": ops}),
        (DELETE, "connectorDelete", {"name": "ops"}),
    ):
        ((code, path, words),) = await refused(api, query, field, **variables)
        assert (code, path) == ("CONFLICT", ["name"])
        assert "connectors.toml" in words
    for name in ("default",):
        ((code, _, words),) = await refused(
            api, CREATE, "connectorCreate", input={**SQL, "name": name}
        )
        assert (code, "always there" in words) == ("CONFLICT", True)
    await made(api, SQL)
    ((code, _, _),) = await refused(api, CREATE, "connectorCreate", input=SQL)
    assert code == "ALREADY_EXISTS"
    # A file that takes the name later hides it, and that is told.
    (project / "connectors.toml").write_text('[connectors.shop]\nkind = "sql"\nurl = "mysql://h"\n')
    await catalog.sync(api.db, api.backing.bell, api.backing.project)
    shown = (await api.query(SHOW, name="shop"))["connector"]
    assert (shown["origin"], shown["settings"]) == ("FILE", {"url": "mysql://h"})
    (problem,) = (await api.query("{ catalogProblems { file line message } }"))["catalogProblems"]
    assert (problem["file"], problem["line"]) == ("connectors.toml", 1)
    assert "hidden by the one in this file" in problem["message"]
    assert await refused(api, DELETE, "connectorDelete", name="shop") == []
    assert (await api.query(SHOW, name="shop"))["connector"]["origin"] == "FILE"
    assert (await api.query("{ catalogProblems { file } }"))["catalogProblems"] == []


async def test_a_connector_that_jobs_name_stays(api):
    await made(api, SQL)
    step = {"name": "a", "type": "sql_query", "config": {"connector": "shop", "query": "SELECT 1"}}
    jobs = [
        {"name": "uses-it", "steps": [step]},
        {
            "name": "by-parameter",
            "params": {"target_connector": "shop"},
            "steps": [
                {**step, "config": {**step["config"], "connector": "${kw:target_connector}"}}
            ],
        },
    ]
    for job in jobs:
        assert (await api.query(JOB, input=job))["jobCreate"]["errors"] == []
    ((code, path, words),) = await refused(api, DELETE, "connectorDelete", name="shop")
    assert (code, path) == ("IN_USE", ["name"])
    assert "`by-parameter`, `uses-it`" in words
    for job in jobs:
        await api.query("mutation ($n: String!) { jobDelete(name: $n) { name } }", n=job["name"])
    assert await refused(api, DELETE, "connectorDelete", name="shop") == []
    ((code, _, _),) = await refused(api, DELETE, "connectorDelete", name="shop")
    assert code == "NOT_FOUND"
    assert (await api.query(SHOW, name="shop"))["connector"] is None


async def test_a_test_says_green_or_red_and_why(api, mariadb_url, project):
    parts = urlsplit(mariadb_url)
    settings = {
        "driver": "mariadb",
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "database": parts.path[1:],
    }
    given = {**SQL, "settings": settings}
    await made(api, {**given, "secrets": {"password": parts.password}})
    green = (await api.query(TEST, name="shop"))["connectorTest"]["test"]
    assert (green["ok"], green["message"].startswith("MariaDB 10.")) == (True, True), green
    await api.query(UPDATE, input={**given, "secrets": {"password": CANARY}})
    red = (await api.query(TEST, name="shop"))["connectorTest"]["test"]
    assert (red["ok"], "Access denied" in red["message"]) == (False, True), red
    await made(api, {"name": "file", "kind": "sql", "settings": {"url": "sqlite:///a.db"}})
    green = (await api.query(TEST, name="file"))["connectorTest"]["test"]
    assert (green["ok"], green["message"]) == (
        True,
        "SQLite, a.db does not exist yet: the first statement makes it",
    )
    assert not (project / "a.db").exists()


async def test_without_a_key_no_secret_is_taken(api, database_url):
    vault = Vault.of(None)
    asked = connector_changes.Asked("x", "sql", {"driver": "mysql"}, secrets={"password": CANARY})
    with pytest.raises(NomaflowError, match="NOMAFLOW_SECRET_KEY is not set"):
        await connector_changes.create(api.db, api.backing.project, vault, asked, by="test")
    plain = connector_changes.Asked("x", "sql", {"driver": "mysql"})
    await connector_changes.create(api.db, api.backing.project, vault, plain, by="test")


async def test_keys_are_rotated_and_the_old_one_retires(api):
    await made(api, SQL)
    await made(api, HTTP)
    new = "another key that is long enough"
    both = Vault.of(f"{new},{SECRET_KEY}")
    with pytest.raises(NomaflowError, match="encrypted with a key that"):
        await connector_changes.rotate(api.db, Vault.of(new))
    assert await connector_changes.rotate(api.db, both) == ["api", "shop"]
    assert await connector_changes.rotate(api.db, both) == []
    row = await connectors.find(api.db, "shop")
    assert Vault.of(new).open("shop", row.sealed) == {"password": CANARY}
    assert row.revision == 1
    # This program still has the old key only: it says so, and giving the secret anew mends it.
    ((code, _, words),) = await refused(api, TEST, "connectorTest", name="shop")
    assert (code, "NOMAFLOW_SECRET_KEY" in words) == ("INVALID_STATE", True)
    ((code, _, _),) = await refused(api, UPDATE, "connectorUpdate", input={**SQL, "secrets": None})
    assert code == "INVALID_STATE"
    assert await refused(api, UPDATE, "connectorUpdate", input=SQL) == []


async def test_what_is_sealed_for_one_connector_opens_for_no_other(api):
    await made(api, SQL)
    await made(api, {**SQL, "name": "other", "secrets": {"password": "something-else"}})
    await api.db.execute(
        "UPDATE nomaflow.connectors SET sealed = (SELECT sealed FROM nomaflow.connectors "
        "WHERE name = 'shop') WHERE name = 'other'"
    )
    ((code, _, _),) = await refused(api, TEST, "connectorTest", name="other")
    assert code == "INVALID_STATE"


def forms(secret):
    data = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield data.hex()
    for before in range(3):
        letters = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        yield letters[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]


async def test_a_secret_is_nowhere_but_in_the_step_that_uses_it(
    api, database_url, redis_url, mariadb_url, project, capfd, tmp_path
):
    """The database's dump, the programs' log and every answer of the API hold no form of it."""
    parts = urlsplit(mariadb_url)
    settings = {"driver": "mysql", "host": parts.hostname, "port": parts.port, "user": CANARY}
    user = {"settings": {**settings, "user": "${secret:user}"}, "secrets": {"user": CANARY}}
    await made(api, {**SQL, **user, "queries": None})
    await made(api, {**HTTP, "secrets": {"key": CANARY, "token": CANARY}})
    answers = [(await api.post(SHOW, {"name": "shop"})).text]
    answers.append((await api.post(TEST, {"name": "shop"})).text)
    answers.append((await api.post(UPDATE, {"input": {**SQL, "kind": "ldap"}})).text)
    plugin = """
        async def leak(ctx, **_):
            # Names of secrets are no secret; what a server says may hold one.
            try:
                await ctx.get_connector("shop").scalar("SELECT 1")
            except Exception as error:
                ctx.log.info(f"it said {error}")
                return {"said": str(error)}
    """
    async with workshop(database_url, redis_url, project) as shop, working(shop):
        await shop.declare(
            """
            [[jobs]]
            name = "leaky"
            [[jobs.steps]]
            name = "a"
            type = "sql_query"
            connector = "shop"
            query = "SELECT 1"
            continue_on_error = true
            [[jobs.steps]]
            name = "b"
            type = "python"
            callable = "leaks:leak"
            """,
            **{"plugins__leaks.py": plugin},
        )
        run = await shop.end(await shop.trigger("leaky"))
    assert run["status"] in {"partial", "failed"}
    runs = """{ runs { nodes { reason error { message } steps { output input error { message }
      attempts { error { message } } } } } connectors { settings lastTest { message } } }"""
    answers.append((await api.post(runs)).text)
    dump = await asyncio.to_thread(
        subprocess.run,
        [str(wheels.find(None).postgres.with_name("pg_dump")), database_url],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = capfd.readouterr()
    everything = "\n".join([dump.stdout, seen.out, seen.err, *answers])
    assert "Access denied" in dump.stdout
    assert [form for form in forms(CANARY) if form in everything] == []
