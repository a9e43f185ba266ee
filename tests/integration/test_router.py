"""A switch made of `when` (D10): the first that matches wins, the last step is the default."""

import re
from pathlib import Path

import pytest
from workshop import working, workshop

PAGE = Path(__file__).parents[2] / "docs/reference/substitutions.md"
ROUTES = """
def invoice(ctx): return {"took": "invoice"}
def order(ctx): return {"took": "order"}
def other(ctx): return {"took": "other"}
"""


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made:
        (made.root / "plugins" / "routes.py").write_text(ROUTES)
        section = PAGE.read_text(encoding="utf-8").split("## One of several ways")[1]
        synced = await made.declare(re.search(r"```toml\n(.*?)```", section, re.DOTALL)[1])
        assert synced.problems == 0
        async with working(made):
            yield made


async def test_the_switch_of_the_reference(shop):
    for kind, took in (
        ("invoice-7", "invoice"),  # `order` would match as well: the first one wins
        ("order-12", "order"),
        ("returned", "anything-else"),
    ):
        run = await shop.run("route", params={"kind": kind})
        assert run["status"] == "succeeded", run["reason"]
        steps = await shop.steps(run["id"])
        assert [step["name"] for step in steps if step["status"] == "succeeded"] == [took]
        assert {step["reason"] for step in steps if step["status"] == "skipped"} == {
            "skipped: condition is false"
        }


OPERATORS = """
[[jobs]]
name = "operators"
params = { text = "Acme Ltd", n = 5, yes = true }
"""
STEP = """
[[jobs.steps]]
name = "{name}"
type = "sql_query"
connector = "default"
query = "SELECT 1 AS one"
when = {when}
"""


@pytest.mark.parametrize("truth", [True, False])
async def test_the_eight_operators_of_the_router(shop, truth):
    conditions = {
        "equals": ("params.yes == `true`", "params.yes == `false`"),
        "not equals": ("params.text != 'Other'", "params.text != 'Acme Ltd'"),
        "contains": ("contains(params.text, 'me L')", "contains(params.text, 'xyz')"),
        "starts with": ("starts_with(params.text, 'Acme')", "starts_with(params.text, 'Ltd')"),
        "ends with": ("ends_with(params.text, 'Ltd')", "ends_with(params.text, 'Acme')"),
        "greater than": ("params.n > `4`", "params.n > `5`"),
        "less than": ("params.n < `6`", "params.n < `5`"),
        "matches": ("matches(params.text, '^A.*d$')", "matches(params.text, '^[0-9]+$')"),
    }
    steps = [
        STEP.format(name=name, when=f'"""{pair[0] if truth else pair[1]}"""')
        for name, pair in conditions.items()
    ]
    await shop.declare(OPERATORS + "".join(steps))
    run = await shop.run("operators")
    wanted = "succeeded" if truth else "skipped"
    assert {step["status"] for step in await shop.steps(run["id"])} == {wanted}
