"""ldap_sync from a real directory into each kind of database: one table follows the other side."""

import asyncio

import pytest
from directory import PEOPLE
from mirroring import USERS, Sync, counts


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def target_url(request, tmp_path):
    match request.param:
        case "postgresql":
            return request.getfixturevalue("pg_url")
        case "mysql":
            return request.getfixturevalue("mariadb_url")
        case _:
            return f"sqlite:///{tmp_path}/target.db"


@pytest.fixture
async def sync(directory, target_url):
    made = Sync(directory, target_url)
    users = USERS
    if made.db.dialect == "mysql":
        users = USERS.replace("user_id text", "user_id varchar(80)")
    await made.db.execute(users)
    yield made
    await made.db.close()


async def test_2500_people_are_mirrored_and_a_second_time_nothing_changes(sync):
    """W07, L01, L02, L03, L05, L07."""
    result = await sync.run()
    assert counts(result) == (2500, 2500, 0, 0)
    assert result.output["pages"] == 3
    assert (result.output["fetched"], result.output["upserted"], result.output["pruned"]) == (
        2500,
        2500,
        0,
    )
    assert result.rows_affected == 2500
    assert result.reason is None
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2500
    row = await sync.db.first("SELECT * FROM users WHERE user_id = 'u00020'")
    assert row == {
        "user_id": "u00020",
        "name": "Person 20",
        "email": None,
        "phones": "+33 1 000020 0;+33 1 000020 1;+33 1 000020 2",
        "number": 20,
        "note": "kept",
    }
    again = await sync.run()
    assert counts(again) == (2500, 0, 0, 2500)
    assert again.summary == "2 500 entries · 0 new · 0 changed · 2500 the same"
    assert sync.context.events[-1]["done"] == 2500


async def test_what_changed_is_changed_and_nothing_else(sync):
    await sync.run()
    await sync.db.execute("UPDATE users SET note = 'mine'")
    sync.directory.change(
        f"dn: uid=u00001,{PEOPLE}\nchangetype: modify\nreplace: cn\ncn: pErson 1\n-\n"
        "delete: mail\n-\n"
    )
    sync.person("new", "Nouvelle Élève", mail="new@corp.example")
    assert counts(await sync.run()) == (2501, 1, 1, 2499)
    row = await sync.db.first("SELECT name, email, note FROM users WHERE user_id = 'u00001'")
    assert row == {"name": "pErson 1", "email": None, "note": "mine"}
    assert await sync.db.scalar("SELECT name FROM users WHERE user_id = 'new'") == "Nouvelle Élève"


async def test_rows_that_are_gone_are_deleted(sync):
    """L04, hard."""
    await sync.run(deletion="hard")
    sync.directory.delete(f"uid=u00001,{PEOPLE}", f"uid=u00002,{PEOPLE}")
    result = await sync.run(deletion="hard")
    assert counts(result) == (2498, 0, 0, 2498)
    assert result.output["deleted"] == 2
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2498
    assert (await sync.run(deletion="hard")).output["deleted"] == 0


async def test_rows_that_are_gone_are_flagged_and_come_back(sync):
    """L04, soft; a flag of any type."""
    small = {"search_filter": "(logonCount<=280)", "max_delete": 5}
    for column, kind, gone, there in (
        ("active", "boolean", False, True),
        ("state", "int", 0, 1),
        ("left_at", "timestamp NULL", "set", None),
    ):
        await sync.db.execute(f"ALTER TABLE users ADD {column} {kind}")
        flags = {"deletion": "soft", "deletion_column": column, **small}
        await sync.run(**flags)
        sync.directory.delete(f"uid=u00003,{PEOPLE}")
        result = await sync.run(**flags)
        assert result.output["deleted"] == 1
        assert "1 flagged" in result.summary
        found = await sync.db.scalar(f"SELECT {column} FROM users WHERE user_id = 'u00003'")
        assert (found is not None) if gone == "set" else (found == gone), column
        kept = await sync.db.scalar(f"SELECT {column} FROM users WHERE user_id = 'u00004'")
        assert kept == there, column
        assert (await sync.run(**flags)).output["deleted"] == 0
        sync.person(
            "u00003",
            "Person 3",
            employeeNumber="3",
            logonCount="21",
            telephoneNumber="+33 1 000003 0",
        )
        assert counts(await sync.run(**flags))[2] == 1
        back = await sync.db.scalar(f"SELECT {column} FROM users WHERE user_id = 'u00003'")
        assert back == there, column


async def test_a_flag_may_say_the_reverse(sync):
    await sync.db.execute("ALTER TABLE users ADD is_gone boolean")
    flags = {"deletion": "soft", "deletion_column": "is_gone", "deletion_value": True}
    await sync.run(**flags)
    sync.directory.delete(f"uid=u00003,{PEOPLE}")
    await sync.run(**flags)
    gone = await sync.db.all("SELECT user_id FROM users WHERE is_gone")
    assert gone == [{"user_id": "u00003"}]


async def test_too_many_gone_changes_nothing(sync):
    """L09, SEC-L04."""
    await sync.run()
    few = {"deletion": "hard", "search_filter": "(logonCount<=15400)"}
    error = await sync.refused(**few)
    assert not error.retryable
    assert error.message == (
        f"300 rows of 2 500 rows in {sync.shown('users')} would be deleted, and max_delete = 10% "
        "allows 250; nothing was changed. If the directory is right, raise max_delete for this run"
    )
    assert "nothing was changed" in (await sync.refused(max_delete=299, **few)).message
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2500
    assert (await sync.run(max_delete="12%", **few)).output["deleted"] == 300


async def test_an_empty_answer_never_empties_the_table(sync):
    """L09."""
    await sync.run()
    none = {"search_filter": "(uid=nobody)", "deletion": "hard", "max_delete": "100%"}
    error = await sync.refused(**none)
    assert error.message == (
        "the directory gave 0 entries, fewer than min_entries = 1; nothing was changed"
    )
    assert error.retryable
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2500
    assert (await sync.run(min_entries=0, **none)).output["deleted"] == 2500


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(sync):
    await sync.run(search_filter="(logonCount<=14000)")
    sync.directory.delete(f"uid=u00001,{PEOPLE}", f"uid=u00002,{PEOPLE}")
    sync.directory.change(
        f"dn: uid=u00003,{PEOPLE}\nchangetype: modify\nreplace: cn\ncn: Other\n-\n"
    )
    result = await sync.run(dry_run=True, deletion="hard")
    assert counts(result) == (2498, 500, 1, 1997)
    assert result.output["deleted"] == 2
    assert result.output["examples"] == {
        "insert": [{"user_id": f"u0200{n}"} for n in range(1, 6)],
        "update": [{"user_id": "u00003"}],
        "delete": [{"user_id": "u00001"}, {"user_id": "u00002"}],
    }
    assert result.summary.startswith("dry run: ")
    assert result.rows_affected == 0
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2000
    refused = await sync.run(dry_run=True, deletion="hard", max_delete=1)
    assert "max_delete = 1 allows 1" in refused.output["refusal"]


async def test_an_entry_that_does_not_fit_is_left_out_and_told(sync):
    """L06: the others go on, and a row that is there stays."""
    await sync.db.execute("DELETE FROM users")
    if sync.db.dialect == "sqlite":  # it has no lengths and no types
        await sync.db.execute("DROP TABLE users")
        await sync.db.execute(USERS.replace("number int", "number int CHECK (number < 9999)"))
    await sync.run(deletion="hard")
    sync.directory.change(
        f"dn: uid=u00007,{PEOPLE}\nchangetype: modify\n"
        "replace: employeeNumber\nemployeeNumber: 99999999999\n-\n"
    )
    sync.person("unfit", employeeNumber="99999999999")
    result = await sync.run(deletion="hard")
    assert counts(result) == (2501, 0, 0, 2499)
    assert (result.output["failed"], result.output["deleted"]) == (2, 0)
    assert result.reason == "2 entries left out"
    assert any(f"uid=unfit,{PEOPLE}: " in line for line in result.output["failures"])
    assert any(f"uid=unfit,{PEOPLE}" in line for line in sync.context.log.at("WARNING"))
    assert await sync.db.scalar("SELECT number FROM users WHERE user_id = 'u00007'") == 7


async def test_an_entry_without_a_key_is_left_out(sync):
    await sync.db.execute("DROP TABLE users")
    await sync.db.execute("CREATE TABLE users (email varchar(80) PRIMARY KEY, name varchar(80))")
    mapping = {"mail": "email", "cn": "name"}
    result = await sync.run(
        mapping=mapping, key=["email"], search_filter="(logonCount<=700)", deletion="hard"
    )
    assert (result.output["inserted"], result.output["failed"]) == (90, 10)
    assert "it has no value for the key (email)" in result.output["failures"][0]


async def test_two_entries_with_one_key_are_refused(sync):
    sync.person("twin-1", mail="same@corp.example")
    sync.person("twin-2", mail="same@corp.example")
    await sync.db.execute("DROP TABLE users")
    await sync.db.execute("CREATE TABLE users (email varchar(80) PRIMARY KEY, name varchar(80))")
    error = await sync.refused(
        mapping={"mail": "email", "cn": "name"}, key=["email"], search_filter="(uid=twin-*)"
    )
    assert f"uid=twin-1,{PEOPLE} and uid=twin-2,{PEOPLE} have the same key" in error.message
    assert "email = 'same@corp.example'" in error.message
    assert not error.retryable
    assert await sync.db.scalar("SELECT count(*) FROM users") == 0


async def test_wrong_targets_are_refused_before_anything_is_read(sync):
    for changes, said in (
        ({"table": "nobody"}, "there is no table nobody in connector 'default'"),
        ({"mapping": {"uid": "user_id", "cn": "nom"}}, "has no column 'nom'; its columns: user_id"),
        ({"mapping": {"cn": "name"}}, "no attribute fills the key column 'user_id'"),
        ({"key": ["name"]}, "has no primary key or unique index on (name)"),
        ({"deletion": "soft", "deletion_column": "note"}, "must be a truth value, a number or a"),
        ({"deletion": "soft", "deletion_column": "x"}, "there is none of that name"),
        ({"deletion": "soft", "deletion_column": "number"}, "is also filled from an attribute"),
        ({"mapping": {"uid": "user_id", "mial": "email"}}, "no attribute 'mial'; did you mean"),
    ):
        error = await sync.refused(**changes)
        assert said in error.message
        assert not error.retryable


async def test_names_are_quoted_exactly(sync):
    """SEC-Q03, and a value that looks like SQL is a value (SEC-Q01)."""
    await sync.db.execute("DROP TABLE users")
    quote = "`" if sync.db.dialect == "mysql" else '"'
    table, column = "Us'er; --", "Sélect :name"
    await sync.db.execute(
        f"CREATE TABLE {quote}{table}{quote} (id varchar(80) PRIMARY KEY, "
        f"{quote}{column}{quote} varchar(80))"
    )
    sync.person("quoted", "'; DROP TABLE users; -- \\ \" :x $1")
    result = await sync.run(
        table=table, key=["id"], mapping={"uid": "id", "cn": column}, search_filter="(uid=q*)"
    )
    assert result.output["inserted"] == 1
    rows = await sync.db.all(f"SELECT * FROM {quote}{table}{quote}")
    assert rows == [{"id": "quoted", column: "'; DROP TABLE users; -- \\ \" :x $1"}]


async def test_values_become_what_the_columns_hold(sync):
    """Binary ids, times, truths, bytes and several values."""
    guid = bytes(range(16))
    sid = bytes.fromhex("010500000000000515000000a065cf7e784b9b5fe77c8770091c0100")
    sync.person(
        "typed",
        objectGUID=guid,
        objectSid=sid,
        jpegPhoto=b"\xff\xd8\x00\x01",
        isAbsent="TRUE",
        logonCount="12",
        memberOf=["cn=a,dc=corp", "cn=b,dc=corp", "cn=c,dc=corp"],
    )
    kinds = {
        "postgresql": ("uuid", "bytea", "boolean", "text[]", "timestamptz"),
        "mysql": ("char(36)", "blob", "boolean", "json", "datetime"),
        "sqlite": ("text", "blob", "boolean", "json", "datetime"),
    }[sync.db.dialect]
    await sync.db.execute("DROP TABLE users")
    await sync.db.execute(
        f"CREATE TABLE users (id varchar(80) PRIMARY KEY, guid {kinds[0]}, sid varchar(80), "
        f"photo {kinds[1]}, absent {kinds[2]}, logons int, teams {kinds[3]}, made {kinds[4]}, "
        "dn varchar(200), photo_text varchar(200))"
    )
    mapping = {
        "uid": "id",
        "objectguid": "guid",
        "objectSID": "sid",
        "jpegPhoto": "photo",
        "isAbsent": "absent",
        "logonCount": "logons",
        "memberOf": "teams",
        "createTimestamp": "made",
        "dn": "dn",
    }
    result = await sync.run(
        mapping=mapping, key=["id"], search_filter="(uid=typed)", multi_value="array"
    )
    assert result.output["inserted"] == 1, sync.context.log.lines
    row = await sync.db.first("SELECT * FROM users")
    assert str(row["guid"]) == "03020100-0504-0706-0809-0a0b0c0d0e0f"
    assert row["sid"] == "S-1-5-21-2127521184-1604012920-1887927527-72713"
    assert row["photo"] == b"\xff\xd8\x00\x01"
    assert row["absent"] in (True, 1)
    assert row["logons"] == 12
    teams = ["cn=a,dc=corp", "cn=b,dc=corp", "cn=c,dc=corp"]
    assert sync.teams(row["teams"]) == teams
    assert str(row["made"])[:2] == "20"
    assert row["dn"] == f"uid=typed,{PEOPLE}"
    unchanged = await sync.run(
        mapping=mapping, key=["id"], search_filter="(uid=typed)", multi_value="array"
    )
    assert counts(unchanged) == (1, 0, 0, 1)
    text = {"uid": "id", "jpegPhoto": "photo_text"}
    await sync.run(mapping=text, key=["id"], search_filter="(uid=typed)")
    assert await sync.db.scalar("SELECT photo_text FROM users") == "/9gAAQ=="


async def test_a_named_query_is_told_of_every_entry(sync):
    upsert = "INSERT INTO users (user_id, name) VALUES (:id, :who) " + {
        "mysql": "ON DUPLICATE KEY UPDATE name = :who",
    }.get(sync.db.dialect, "ON CONFLICT (user_id) DO UPDATE SET name = excluded.name")
    sync.query("upsert-user", upsert)
    asked = {
        "table": None,
        "key": None,
        "target_query": "upsert-user:write",
        "mapping": {"uid": "id", "cn": "who"},
    }
    few = {"search_filter": "(logonCount<=8400)"}
    result = await sync.run(**asked, **few)
    assert (result.output["entries"], result.output["upserted"]) == (1200, 1200)
    assert result.rows_affected == 1200
    assert await sync.db.scalar("SELECT count(*) FROM users") == 1200
    plan = await sync.run(dry_run=True, **asked)
    assert plan.output["upserted"] == 2500
    assert plan.output["examples"]["write"][0] == {"id": "u00001", "who": "Person 1"}
    assert await sync.db.scalar("SELECT count(*) FROM users") == 1200
    # One that fails is left out, the others stay.
    await sync.db.execute("DELETE FROM users")
    sync.person("none", "x")
    sync.query("upsert-user", upsert.replace(":who)", "nullif(:who, 'x'))"))
    result = await sync.run(**asked, search_filter="(|(logonCount<=70)(uid=none))")
    assert (result.output["upserted"], result.output["failed"]) == (10, 1)
    assert await sync.db.scalar("SELECT count(*) FROM users") == 10


async def test_two_syncs_at_once_end_in_the_same_table(sync):
    results = await asyncio.gather(*(sync.run(deletion="hard") for _ in range(3)))
    assert sum(result.output["inserted"] for result in results) == 2500
    assert all(result.output["entries"] == 2500 for result in results)
    assert await sync.db.scalar("SELECT count(*) FROM users") == 2500


async def test_wrong_queries_are_refused_before_anything_is_read(sync):
    sync.query("put", "INSERT INTO users (user_id, name) VALUES (:id, :who)")
    asked = {"table": None, "key": None, "mapping": {"uid": "id", "cn": "who"}}
    for changes, said in (
        ({"target_query": "put"}, "changes data; refer to it as 'put:write'"),
        ({"target_query": "other:write"}, "has no query named 'other'; its queries: put"),
        ({"mapping": {"uid": "id", "cn": "x"}}, "has no parameter `:x`; it has :id, :who"),
        ({"mapping": {"uid": "id"}}, "no attribute fills the parameter `:who`"),
    ):
        error = await sync.refused(**{**asked, "target_query": "put:write", **changes})
        assert said in error.message, error.message
