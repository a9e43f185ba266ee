"""ldap_sync as a step of a run: secrets, retries, abort, and what history keeps."""

import json
import time

import pytest
from directory import PEOPLE, READER, READER_PASSWORD
from ldap_stub import done, entry, serving
from workshop import working

from nomaflow import dispatch
from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.spec import LdapConnectorSpec
from nomaflow.errors import StepError

JOB = """
    [[jobs]]
    name = "mirror"
    {job}

    [[jobs.steps]]
    name = "users"
    type = "ldap_sync"
    {how}
    search_base = "{people}"
    search_filter = "(objectClass=inetOrgPerson)"
    mapping = {{ uid = "user_id", cn = "name" }}
    table = "people"
    key = ["user_id"]
    {step}
"""
CONNECTOR = """
    [connectors.directory]
    kind = "ldap"
    url = "{url}"
    bind_dn = "{who}"
    bind_password = "${{env:LDAP_PASSWORD}}"
    {more}
"""
RETRY = "retry = { attempts = 3, base_seconds = 0 }"


@pytest.fixture
async def worker(shop):
    async with working(shop) as supervisor:
        yield supervisor


async def declare(shop, url, *, job="", step="", how='connector = "directory"', more="", env=None):
    await shop.db.execute(
        "CREATE TABLE IF NOT EXISTS public.people (user_id text PRIMARY KEY, name text)"
    )
    await shop.db.execute("ALTER TABLE public.people OWNER TO nomaflow_jobs")
    (shop.root / ".env").write_text(f"LDAP_PASSWORD={env or READER_PASSWORD}\n")
    (shop.root / "connectors.toml").write_text(
        "\n".join(
            line.strip() for line in CONNECTOR.format(url=url, who=READER, more=more).splitlines()
        )
    )
    await shop.declare(JOB.format(job=job, step=step, how=how, people=PEOPLE))


async def everything_kept(shop):
    """All that history holds, as text."""
    tables = await shop.db.fetch(
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'nomaflow'"
    )
    texts = []
    for table in tables:
        rows = await shop.db.fetch(f'SELECT t::text AS row FROM nomaflow."{table["name"]}" AS t')
        texts += [row["row"] for row in rows]
    return "\n".join(texts)


async def test_a_run_mirrors_a_directory_and_keeps_no_secret(shop, worker, directory):
    """L08, SEC-S01: over StartTLS with a certificate of the project's folder."""
    (shop.root / "ca.pem").write_text((directory.home / "ca.pem").read_text())
    more = 'start_tls = true\n    ca_file = "ca.pem"'
    await declare(shop, directory.url, more=more)
    run = await shop.run("mirror")
    assert run["status"] == "succeeded", run["error"]
    (step,) = await shop.steps(run["id"])
    assert step["summary"] == "2 500 entries · 2500 new · 0 changed · 0 the same"
    assert run["rows_affected"] == 2500
    assert await shop.db.fetchval("SELECT count(*) FROM public.people") == 2500
    lines = await shop.lines(run["id"])
    assert any("TLSv1.3" in line for line in lines)
    again = await shop.run("mirror")
    assert json.loads(json.dumps((await shop.steps(again["id"]))[0]["output"]))["inserted"] == 0
    assert READER_PASSWORD not in await everything_kept(shop)


async def test_an_inline_password_is_kept_nowhere(shop, worker, directory):
    inline = f"""server = "{directory.url}"
    bind_dn = "{READER}"
    bind_password = "${{env:LDAP_PASSWORD}}" """
    await declare(shop, directory.url, how=inline)
    assert (await shop.run("mirror"))["status"] == "succeeded"
    await declare(shop, directory.url, how=inline, env="another-wrong-password")
    assert (await shop.run("mirror"))["status"] == "failed"
    kept = await everything_kept(shop)
    assert READER_PASSWORD not in kept
    assert "another-wrong-password" not in kept


async def test_bad_credentials_are_tried_once(shop, worker, directory):
    """L06, whatever the policy says."""
    await declare(shop, directory.url, job=RETRY, env="not-the-password")
    run = await shop.run("mirror")
    assert run["status"] == "failed"
    assert "wrong name or password" in run["error"]["message"]
    (step,) = await shop.steps(run["id"])
    assert step["attempt"] == 1


async def test_a_silent_directory_is_tried_again(shop, worker):
    async with serving(silent=True) as stub:
        await declare(
            shop,
            stub.url,
            job=RETRY,
            more="connect_timeout_seconds = 0.2\n    receive_timeout_seconds = 1",
        )
        run = await shop.run("mirror")
    assert run["error"]["category"] == "timeout"
    (step,) = await shop.steps(run["id"])
    assert step["attempt"] == 3


async def test_an_abort_ends_it_within_two_seconds(shop, worker):
    def endless(search):
        if search.base == "":
            return [(done(50),)]
        return [(entry("uid=a", uid=["a"], cn=["a"]),), 60]

    async with serving(search=endless) as stub:
        await declare(shop, stub.url)
        run_id = await shop.trigger("mirror")
        await shop.until(run_id, "users", "running")
        await stub.asked.wait()
        started = time.monotonic()
        await dispatch.abort(shop.db, shop.bell, run_id, by="api")
        run = await shop.end(run_id)
        assert run["status"] == "aborted"
        assert time.monotonic() - started < 2
    assert await shop.db.fetchval("SELECT count(*) FROM public.people") == 0


async def test_entries_left_out_make_the_run_partial(shop, worker, directory):
    await declare(shop, directory.url)
    await shop.db.execute("ALTER TABLE public.people ADD CHECK (user_id <> 'u00007')")
    run = await shop.run("mirror")
    (step,) = await shop.steps(run["id"])
    assert (run["status"], step["status"]) == ("partial", "succeeded")
    assert step["reason"] == "1 entry left out"
    assert await shop.db.fetchval("SELECT count(*) FROM public.people") == 2499


async def test_a_dry_run_changes_nothing(shop, worker, directory):
    await declare(shop, directory.url)
    run = await shop.run("mirror", dry_run=True)
    (step,) = await shop.steps(run["id"])
    assert run["status"] == "succeeded"
    assert step["summary"].startswith("dry run: 2 500 entries · 2500 new")
    assert await shop.db.fetchval("SELECT count(*) FROM public.people") == 0


async def test_a_guard_is_raised_for_one_run(shop, worker, directory):
    await declare(shop, directory.url, step='deletion = "hard"')
    await shop.run("mirror")
    await shop.db.execute(
        "INSERT INTO public.people SELECT 'gone' || n FROM generate_series(1, 500) AS n"
    )
    run = await shop.run("mirror")
    assert run["status"] == "failed"
    assert "500 rows of 3 000 rows in public.people would be deleted" in run["error"]["message"]
    run = await shop.run("mirror", step_kwargs={"users": {"max_delete": "20%"}})
    assert run["status"] == "succeeded", run["error"]
    assert await shop.db.fetchval("SELECT count(*) FROM public.people") == 2500


async def test_a_step_that_nobody_vouches_for_reaches_what_the_policy_lets_it(
    shop, worker, directory
):
    """A job made through the API describes a directory itself; a connector is vouched for."""
    (shop.root / "connectors.toml").write_text(
        f'[connectors.directory]\nkind = "ldap"\nurl = "{directory.url}"\n'
    )
    connections = worker.tools.connections
    strict = HttpPolicy(allow_private=False)
    own = LdapConnectorSpec(kind="ldap", url=directory.url)
    with pytest.raises(StepError, match="private addresses are not allowed"):
        await ldap.open(connections.ldap(own, strict))
    session = await ldap.open(connections.ldap("directory", strict))
    await session.close()
    elsewhere = LdapConnectorSpec(kind="ldap", url=directory.tls_url, ca_file=directory.ca_file)
    with pytest.raises(StepError, match="outside of the project"):
        connections.ldap(elsewhere, strict)
    session = await ldap.open(connections.ldap(elsewhere, HttpPolicy()))
    await session.close()
