"""ldap_sync where it is hard: parts of attributes, ends in the middle, injection, two at once."""

import asyncio
import time

import asyncpg
import pytest
from directory import GROUPS, PEOPLE, READER, READER_PASSWORD
from ldap_stub import cookie, done, entry, entry_of, serving
from mirroring import USERS, Sync, counts

from nomaflow.connectors import spec
from nomaflow.errors import StepError
from nomaflow.language import template
from nomaflow.steps import registry
from nomaflow.steps.ldap_sync import LdapSync


@pytest.fixture
async def sync(directory, pg_url):
    made = Sync(directory, pg_url)
    await made.db.execute(USERS)
    yield made
    await made.db.close()


@pytest.fixture
async def stubbed(pg_url):
    """The same without a slapd; the test gives the server."""

    class Nothing:
        def connector(self):
            return {"kind": "ldap", "url": "ldap://127.0.0.1"}

    made = Sync(Nothing(), pg_url)
    await made.db.execute(USERS)
    yield made
    await made.db.close()


def against(stub, sync):
    sync.connectors["directory"] = spec.parse(
        {"kind": "ldap", "url": stub.url, "receive_timeout_seconds": 2}
    )
    return sync


GROUP = {"mapping": {"cn": "name", "member": "members"}, "table": "teams", "key": ["name"]}
TEAMS = "CREATE TABLE teams (name text PRIMARY KEY, members text[])"


def parts_of(count, size, *, forget=None):
    """A group as Active Directory gives it: `size` members at a time, from a base search."""
    everyone = [f"cn=m{n}" for n in range(count)]

    def answer(search):
        if search.base == "":
            return [(done(50),)]
        asked = next((name for name in search.attributes if "range=" in name), None)
        first = int(asked.partition("range=")[2].partition("-")[0]) if asked else 0
        part = everyone[first : first + size]
        if forget == first:
            return [(done(),)]
        last = "*" if first + size >= count else str(first + size - 1)
        name = f"member;range={first}-{last}" if count > size else "member"
        given = {name: part} if asked else {"cn": ["team"], "member": [], name: part}
        return [(entry_of("cn=team,dc=x", given),), (done(), cookie(b""))]

    return answer


@pytest.mark.parametrize("count", [10, 1500, 1501, 4000])
async def test_active_directory_gives_members_in_parts(stubbed, count):
    await stubbed.db.execute(TEAMS)
    async with serving(search=parts_of(count, 1500)) as stub:
        result = await against(stub, stubbed).run(**GROUP)
        assert counts(result)[:2] == (1, 1)
        members = await stubbed.db.scalar("SELECT members FROM teams")
        assert members == [f"cn=m{n}" for n in range(count)]
        assert len(stub.binds) == (2 if count > 1500 else 1)


async def test_a_part_that_does_not_come_changes_nothing(stubbed):
    await stubbed.db.execute(TEAMS)
    async with serving(search=parts_of(4000, 1500, forget=3000)) as stub:
        error = await against(stub, stubbed).refused(**GROUP)
    assert "vanished while the values of member were read" in error.message
    assert await stubbed.db.scalar("SELECT count(*) FROM teams") == 0


async def test_a_group_of_5_000_is_read_whole(sync):
    """OpenLDAP gives all values at once."""
    members = "\n".join(f"member: uid=m{n},{PEOPLE}" for n in range(5000))
    sync.directory.add(f"dn: cn=all,{GROUPS}\nobjectClass: groupOfNames\ncn: all\n{members}\n")
    await sync.db.execute(TEAMS)
    group = {**GROUP, "search_base": GROUPS, "search_filter": "(objectClass=groupOfNames)"}
    assert counts(await sync.run(**group))[:2] == (1, 1)
    assert await sync.db.scalar("SELECT cardinality(members) FROM teams") == 5000
    assert counts(await sync.run(**group)) == (1, 0, 0, 1)


async def test_a_search_that_breaks_off_changes_nothing(stubbed):
    """A failure after 1 000 of 2 000 entries: no row is written, none deleted."""
    await stubbed.db.execute("INSERT INTO users (user_id, name) VALUES ('old', 'Old')")

    def half(search):
        if search.base == "":
            return [(done(50),)]
        if search.cookie:
            return [(entry("uid=z", uid=["z"], cn=["z"]),), None]
        people = [(entry(f"uid=u{n}", uid=[f"u{n}"], cn=["x"]),) for n in range(1000)]
        return [*people, (done(), cookie(b"more"))]

    async with serving(search=half) as stub:
        error = await against(stub, stubbed).refused(deletion="hard", max_delete="100%")
    assert error.category == "connection"
    assert await stubbed.db.all("SELECT user_id FROM users") == [{"user_id": "old"}]
    stubbed.query("put", "INSERT INTO users (user_id, name) VALUES (:user_id, :name)")
    by_query = {
        "table": None,
        "key": None,
        "target_query": "put:write",
        "mapping": {"uid": "user_id", "cn": "name"},
    }
    async with serving(search=half) as stub:
        await against(stub, stubbed).refused(**by_query)
    assert await stubbed.db.scalar("SELECT count(*) FROM users") == 1


async def test_the_directory_dies_in_the_middle(sync):
    step = sync.step(page_size=1)

    async def kill(ctx):
        while not ctx.log.lines:  # it says that it is bound
            await asyncio.sleep(0.001)
        sync.directory.process.kill()

    from step_context import RealContext

    ctx = RealContext(sync.connectors)
    killing = asyncio.create_task(kill(ctx))
    with pytest.raises(StepError) as caught:
        await ctx.run(step)
    await killing
    sync.directory.process.wait()
    assert caught.value.category == "connection"
    assert await sync.db.scalar("SELECT count(*) FROM users") == 0


async def test_nothing_is_left_behind(sync):
    await sync.run()
    await sync.refused(min_entries=9999)
    await sync.run(dry_run=True)
    left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'nomaflow%'"
    assert await sync.db.scalar(left) == 0


async def test_types_that_only_postgresql_reads(sync):
    await sync.db.execute("CREATE DOMAIN shout AS varchar(20) CHECK (VALUE = upper(VALUE))")
    await sync.db.execute(
        "CREATE TABLE typed (id text PRIMARY KEY, amount numeric(6,2), code char(3), doc jsonb, "
        "loud shout, day date, at timestamp, tags varchar(30)[])"
    )
    sync.person("fits", "A", title="12.345", l="abc", description=["x", "y"], employeeNumber="1")
    sync.person("long", "B", l="abcd")
    sync.person("low", "c")
    mapping = {
        "uid": "id",
        "title": "amount",
        "l": "code",
        "description": "doc",
        "cn": "loud",
        "createTimestamp": "day",
        "modifyTimestamp": "at",
        "objectClass": "tags",
    }
    result = await sync.run(
        table="typed", key=["id"], mapping=mapping, search_filter="(|(uid=fits)(uid=l*))"
    )
    assert (result.output["inserted"], result.output["failed"]) == (1, 2)
    row = await sync.db.first("SELECT * FROM typed")
    assert (str(row["amount"]), row["code"], row["doc"]) == ("12.35", "abc", ["x", "y"])
    assert row["tags"] == ["inetOrgPerson", "adLike"]
    told = " ".join(result.output["failures"])
    assert "value too long for type character(3)" in told
    assert 'violates check constraint "shout_check"' in told


async def test_identical_names_in_another_schema(sync):
    await sync.db.execute("CREATE SCHEMA hr")
    await sync.db.execute(USERS.replace("users", "hr.users"))
    await sync.run(schema="hr")
    assert await sync.db.scalar("SELECT count(*) FROM hr.users") == 2500
    assert await sync.db.scalar("SELECT count(*) FROM users") == 0


async def test_every_row_refused_is_a_failure(sync):
    await sync.db.execute("ALTER TABLE users ADD must text NOT NULL")
    error = await sync.refused(search_filter="(logonCount<=700)")
    assert "none of the 100 rows fits public.users" in error.message
    assert 'null value in column "must"' in error.message
    assert not error.retryable


async def test_columns_by_their_names(sync):
    await sync.db.execute(
        'CREATE TABLE named (uid text PRIMARY KEY, mail text, "GIVENNAME" text, own int)'
    )
    by_name = {"table": "named", "key": ["uid"], "mapping": None}
    await sync.run(attributes=["UID", "givenName"], **by_name)
    row = await sync.db.first("SELECT * FROM named WHERE uid = 'u00001'")
    assert row == {"uid": "u00001", "mail": None, "GIVENNAME": "Given 1", "own": None}
    assert counts(await sync.run(**by_name)) == (2500, 0, 2250, 250)
    assert await sync.db.scalar("SELECT mail FROM named WHERE uid = 'u00001'")


async def test_the_step_describes_the_directory_itself(sync):
    inline = {
        "connector": None,
        "server": sync.directory.tls_url,
        "bind_dn": READER,
        "bind_password": READER_PASSWORD,
        "ca_file": sync.directory.ca_file,
    }
    assert counts(await sync.run(**inline)) == (2500, 2500, 0, 0)
    shown = sync.step(**inline).model_dump_json()
    assert READER_PASSWORD not in shown
    starting = {**inline, "server": sync.directory.url, "start_tls": True}
    assert counts(await sync.run(**starting))[3] == 2500
    error = await sync.refused(**{**inline, "server": "ldap://dc.corp"})
    assert "would travel to ldap://dc.corp:389 unencrypted" in error.message


async def test_a_token_in_a_filter_is_one_value(sync):
    """SEC-L01: neither a filter nor a base can be changed by what fills them."""
    scope = template.Scope(kw={"who": "*)(uid=*))(|(uid=*", "whole": "(uid=u0000*)", "ou": "a,b"})

    def prepared(**changes):
        config = {
            "connector": "directory",
            "search_base": PEOPLE,
            "table": "users",
            "key": ["user_id"],
            "mapping": {"uid": "user_id", "cn": "name"},
            **changes,
        }
        return LdapSync.prepare(config, lambda value: template.render(value, scope))

    step = prepared(search_filter="(&(objectClass=person)(uid=${kw:who}))")
    assert step.search_filter == (
        "(&(objectClass=person)(uid=\\2a\\29\\28uid=\\2a\\29\\29\\28|\\28uid=\\2a))"
    )
    assert prepared(search_filter="${kw:whole}").search_filter == "(uid=u0000*)"
    assert prepared(search_base="ou=${kw:ou},dc=x").search_base == "ou=a\\,b,dc=x"
    from step_context import RealContext

    with pytest.raises(StepError, match="0 entries"):
        await RealContext(sync.connectors).run(step)


async def test_the_loop_is_never_held_up(sync):
    """Binding, reading and converting 2 500 entries leave the other steps their turns."""
    longest = 0.0  # seconds of the processor, so that a busy machine holds nothing up

    async def watch():
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    await sync.run()
    watching.cancel()
    assert longest < 0.2


async def test_a_cancelled_sync_lets_go_at_once(stubbed):
    """L, abort: within two seconds, with nothing changed."""

    def endless(search):
        if search.base == "":
            return [(done(50),)]
        return [(entry("uid=a", uid=["a"], cn=["a"]),), 60]

    async with serving(search=endless) as stub:
        task = asyncio.create_task(against(stub, stubbed).run())
        while len(stub.searches) < 2:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1.5
    assert await stubbed.db.scalar("SELECT count(*) FROM users") == 0


async def test_a_cancelled_sync_waiting_for_the_table_lets_go(sync, pg_url):
    blocker = await asyncpg.connect(pg_url)
    await blocker.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    task = asyncio.create_task(sync.run())
    await asyncio.sleep(0.5)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 2
    await blocker.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"connector": None}, "give either `connector` or `server`"),
        ({"server": "ldap://x"}, "give either `connector` or `server`"),
        ({"bind_dn": "cn=x"}, "`bind_dn` belongs to `server`"),
        ({"connector": None, "server": "ldap://x", "bind_dn": "cn=x"}, "go together"),
        ({"connector": None, "server": "http://x"}, "has no scheme 'http'"),
        (
            {"connector": None, "server": "ldap://x", "bind_dn": "c", "bind_password": "plain"},
            "bind_password: a secret is written as ${env:NAME}",
        ),
        ({"table": None, "key": None}, "give either `target_query` or `table`"),
        ({"target_query": "x:write"}, "give either `target_query` or `table`"),
        ({"key": None}, "`table` needs `key`"),
        ({"table": None, "key": None, "target_query": "x:write", "deletion": "hard"}, "needs `ta"),
        ({"deletion": "soft"}, "needs `deletion_column`"),
        ({"deletion_column": "x"}, 'is for `deletion = "soft"`'),
        ({"search_filter": "(uid=x"}, "`)` is expected at column 7"),
        ({"mapping": {"u id": "x"}}, "'u id' is not the name of an attribute"),
        ({"mapping": {"a": "x", "b": "x"}}, "both 'a' and 'b' are mapped to 'x'"),
        ({"attributes": ["a b"]}, "'a b' is not the name of an attribute"),
        ({"scope": "all"}, "'base', 'one' or 'subtree'"),
        ({"max_delete": "ten"}, "max_delete"),
        ({"max_delete": "120%"}, "at most 100%"),
        ({"page_size": 0}, "page_size"),
    ],
)
def test_what_is_wrong_is_said_when_the_job_is_declared(changes, said):
    config = {
        "connector": "directory",
        "search_base": PEOPLE,
        "mapping": {"uid": "user_id"},
        "table": "users",
        "key": ["user_id"],
        **changes,
    }
    found = registry.problems("ldap_sync", {k: v for k, v in config.items() if v is not None})
    assert any(said in f"{'.'.join(path)}: {message}" for path, message in found), found
