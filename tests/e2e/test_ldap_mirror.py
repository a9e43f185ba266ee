"""W07: 2 500 people of a real directory, mirrored by three real processes over TLS."""

import shutil

import directory as slapd
import pytest


@pytest.fixture(scope="module")
def corp():
    if reason := slapd.missing_programs():
        slapd.refuse(reason)
    with slapd.running() as made:
        yield made


@pytest.fixture(scope="module")
def up(start, example, make_database, corp):
    project = example("ldap-mirror")
    shutil.copy(corp.ca_file, project / "corp-ca.pem")
    installation = start(project)
    (project / ".env").write_text(
        f"PEOPLE_DB_URL={make_database(installation, 'people')}\n"
        f"LDAP_URL={corp.tls_url}\nLDAP_PASSWORD={slapd.READER_PASSWORD}\n"
    )
    return installation


async def test_2500_people_are_mirrored_and_then_nothing_changes(up, corp):
    run = await up.ended(await up.trigger("mirror-people"))
    assert run["status"] == "SUCCEEDED", run
    people, count = run["steps"]
    assert (people["output"]["entries"], people["output"]["inserted"]) == (2500, 2500)
    assert count["output"]["first_row"] == {"active": 2500, "known": 2500}
    async with up.database("people") as connection:
        row = await connection.fetchrow("SELECT * FROM users WHERE user_id = 'u00004'")
        assert row["phones"] == ["+33 1 000004 0", "+33 1 000004 1", "+33 1 000004 2"]
        assert row["changed_at"] is not None

    again = await up.ended(await up.trigger("mirror-people"))
    output = again["steps"][0]["output"]
    assert (output["inserted"], output["updated"], output["unchanged"]) == (0, 0, 2500)
    assert again["steps"][1]["status"] == "SKIPPED"

    corp.delete(f"uid=u00001,{slapd.PEOPLE}")
    third = await up.ended(await up.trigger("mirror-people"))
    assert third["steps"][0]["output"]["deleted"] == 1
    async with up.database("people") as connection:
        assert await connection.fetchval("SELECT count(*) FROM users WHERE NOT active") == 1
    assert slapd.READER_PASSWORD not in str([run, again, third])
    assert slapd.READER_PASSWORD not in up.said()


async def test_a_connector_is_tested(up):
    answer = await up.ask(
        """mutation { connectorTest(name: "directory") {
          test { ok message } errors { message } } }"""
    )
    test = answer["connectorTest"]["test"]
    assert test["ok"], test
    assert "it holds dc=corp,dc=local" in test["message"]
    assert "TLSv1.3" in test["message"]
