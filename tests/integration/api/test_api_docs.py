"""Every example of the API's reference page is run, and every limit it states is the code's."""

import json
import re
from pathlib import Path

import pytest
from graphql import OperationType, parse

from nomaflow_api.doors import body, cost, documents, limits, websocket
from nomaflow_api.doors.failures import ApiCode
from nomaflow_api.graph import cursors

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "api.md").read_text()
EXAMPLES = re.findall(r"^```graphql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
HELLO = """mutation { jobCreate(input: {name: "hello", params: {day: "sunday"}, steps: [
  {name: "a", type: "sql_query", config: {connector: "default", query: "SELECT 1"}}]})
  { errors { message } } }"""


def mistakes(value):
    """Every entry of every payload's `errors`."""
    if isinstance(value, dict):
        found = value.get("errors") or []
        return found + [m for part in value.values() for m in mistakes(part)]
    return [m for part in value for m in mistakes(part)] if isinstance(value, list) else []


async def test_the_examples_run_one_after_the_other(api):
    await api.query(HELLO)
    assert len(EXAMPLES) > 10
    run = (await api.query('mutation { runTrigger(input: {job: "hello"}) { run { id } } }'))[
        "runTrigger"
    ]["run"]["id"]
    await api.query("mutation ($run: ID!) { runAbort(run: $run) { created } }", run=run)
    async with api.socket() as socket:
        for example in EXAMPLES:
            operation = parse(example).definitions[0]
            named = {v.variable.name.value for v in operation.variable_definitions or ()}
            given = {"run": run} if "run" in named else {}
            if operation.operation is OperationType.SUBSCRIPTION:
                await socket.subscribe(example, **given)
                assert await socket.next()
                continue
            answer = await api.query(example, **given)
            assert mistakes(answer) == [], example
            for begun in ("runTrigger", "externalRunStart"):
                if begun in answer:
                    run = answer[begun]["run"]["id"]


async def test_the_rest_door_answers_as_the_page_says(api):
    await api.query(HELLO)
    shown = json.loads(re.search(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    response = await api.http.post("/admin/jobs/hello/run", json={"params": {"day": "monday"}})
    assert response.json().keys() == shown.keys()
    assert response.json() == shown | {"run_id": response.json()["run_id"]}


@pytest.mark.parametrize(
    "words",
    [
        f"{limits.MAX_TOKENS // 1000} {limits.MAX_TOKENS % 1000:03} tokens",
        f"{limits.MAX_DEPTH} levels of objects",
        f"{limits.MAX_ALIASES} aliases",
        f"mutations in one operation | {limits.MAX_MUTATIONS} ",
        f"about {cost.MOST // 1000} {cost.MOST % 1000:03} objects",
        f"operations on one WebSocket | {websocket.SUBSCRIPTIONS} ",
        f"at most {cursors.LARGEST_PAGE} (log lines {cursors.LARGEST_LOG_PAGE})",
        f"a body | {body.LARGEST // 2**20} MiB",
        f"a query took longer than {documents.QUERY_SECONDS:g} s",
        f"a mutation longer than {documents.MUTATION_SECONDS:g} s",
    ],
)
def test_the_limits_are_those_of_the_code(words):
    assert words in PAGE


def test_every_code_has_its_words():
    unsaid = {code for code in ApiCode if f"`{code}`" not in PAGE}
    assert unsaid <= {ApiCode.SLOW_CONSUMER}
