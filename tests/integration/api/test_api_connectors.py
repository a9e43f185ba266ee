"""Connectors over GraphQL: shown without secrets, tested for real, red or green."""

CONNECTORS = """
[connectors.ops]
kind = "sql"
url = "${env:OPS_URL}"
[connectors.ops.queries.totals]
operation = "write"
sql = "SELECT 1"
description = "adds up"

[connectors.plain]
kind = "sql"
driver = "postgresql"
host = "127.0.0.1"
port = 1
user = "me"
password = "written-in-plain"

[connectors.api]
kind = "http"
url = "https://user:in-the-url@api.example.org/v1"
[connectors.api.headers]
Authorization = "Bearer ${env:TOKEN}"
X-Key = "plain-key"
Accept = "application/json"
"""
TEST = """mutation ($name: String!) { connectorTest(name: $name) {
  test { ok at milliseconds message } errors { code message path } } }"""
CREATE = """mutation ($input: JobInput!) { jobCreate(input: $input) { errors { message } } }"""


async def test_connectors_are_shown_with_references_and_without_secrets(api, project):
    (project / "connectors.toml").write_text(CONNECTORS)
    (project / ".env").write_text("OPS_URL=postgresql://a:very-secret@db/x\nTOKEN=token-value\n")
    steps = [
        {"name": "a", "type": "sql_query", "config": {"connector": "ops", "query": "SELECT 1"}}
    ]
    answer = await api.query(CREATE, input={"name": "uses-ops", "steps": steps})
    assert answer["jobCreate"]["errors"] == []
    query = """{ connectors { id name kind origin settings jobs lastTest { ok }
      queries { name operation sql description params } } }"""
    response = await api.post(query)
    found = {c["name"]: c for c in response.json()["data"]["connectors"]}
    assert set(found) == {"default", "ops", "plain", "api"}
    assert found["ops"]["settings"] == {"url": "${env:OPS_URL}"}
    assert found["ops"]["jobs"] == ["uses-ops"]
    assert found["ops"]["queries"][0]["operation"] == "write"
    assert found["plain"]["settings"]["password"] is None
    assert found["plain"]["settings"]["user"] == "me"
    assert found["api"]["settings"]["url"] == "https://user:***@api.example.org/v1"
    assert found["api"]["settings"]["headers"] == {
        "Authorization": "Bearer ${env:TOKEN}",
        "X-Key": None,
        "Accept": "application/json",
    }
    for secret in ("very-secret", "token-value", "written-in-plain", "in-the-url", "plain-key"):
        assert secret not in response.text
    node = await api.query(
        "query ($id: ID!) { node(id: $id) { ... on Connector { name } } }", id=found["ops"]["id"]
    )
    assert node["node"] == {"name": "ops"}


async def test_a_connector_is_tested_and_the_result_is_remembered(api, project, pg_url):
    (project / "connectors.toml").write_text(CONNECTORS)
    (project / ".env").write_text(f"OPS_URL={pg_url}\nTOKEN=token-value\n")
    green = (await api.query(TEST, name="ops"))["connectorTest"]
    assert green["errors"] == []
    assert green["test"]["ok"] is True
    red = (await api.query(TEST, name="plain"))["connectorTest"]["test"]
    assert red["ok"] is False
    assert "written-in-plain" not in red["message"]
    default = (await api.query(TEST, name="default"))["connectorTest"]["test"]
    assert default["ok"] is True
    (error,) = (await api.query(TEST, name="nobody"))["connectorTest"]["errors"]
    assert (error["code"], error["path"]) == ("NOT_FOUND", ["name"])
    tests = await api.query(
        '{ a: connector(name: "ops") { lastTest { ok message } }'
        ' b: connector(name: "plain") { lastTest { ok message } } }'
    )
    assert tests["a"]["lastTest"]["ok"] is True
    assert tests["b"]["lastTest"] == {"ok": False, "message": red["message"]}


async def test_a_reference_that_leads_nowhere_is_a_sentence(api, project):
    (project / "connectors.toml").write_text(CONNECTORS)
    (error,) = (await api.query(TEST, name="ops"))["connectorTest"]["errors"]
    assert "OPS_URL" in error["message"]
