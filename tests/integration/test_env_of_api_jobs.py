"""What jobs made through the API may read of `.env`: the names the installation lists, no other."""

from dataclasses import replace

import pytest
from workshop import working, workshop

from nomaflow.errors import Code
from nomaflow.in_force import catalog
from nomaflow.in_force.env_names import EnvReach
from nomaflow.job.problems import SpecErrors
from nomaflow_worker.tools import Reach

SECRET = "a-value-nobody-may-see"
FILES = {
    ".env": f"OPEN=open-to-the-api\nCLOSED={SECRET}\n",
    "plugins__probe.py": """
        import os

        def look(ctx, **_):
            return {name: os.environ.get(name, "")[::-1] for name in ("OPEN", "CLOSED")}
        """,
}
LISTED = "NOMAFLOW_API_ENV_ALLOW"


@pytest.fixture
async def shop(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as made, working(made) as w:
        w.tools = replace(w.tools, reach=Reach(api_env=frozenset({"OPEN"})))
        yield made


def looking(*names):
    return {"name": "s", "type": "python", "callable": "probe:look", "env": list(names)}


async def of_the_api(shop, step):
    """Run a job of one step that came through the API."""
    await shop.declare("", **FILES)
    await catalog.create(shop.db, shop.bell, {"name": "j", "steps": [step]}, by="user:alice")
    return await shop.run("j")


async def test_a_python_step_gets_a_listed_name(shop):
    run = await of_the_api(shop, looking("OPEN"))
    assert run["status"] == "succeeded", run["error"]
    [step] = await shop.steps(run["id"])
    assert step["output"] == {"OPEN": "open-to-the-api"[::-1], "CLOSED": ""}


@pytest.mark.parametrize("name", ["CLOSED", "MISSING"])
async def test_no_other_whether_it_is_there_or_not(shop, name):
    run = await of_the_api(shop, looking("OPEN", name))
    assert run["status"] == "failed"
    assert f"`env` names `{name}`" in run["reason"]
    assert LISTED in run["reason"]
    assert SECRET[::-1] not in str([run, await shop.steps(run["id"])])


@pytest.mark.parametrize("name", ["CLOSED", "MISSING"])
async def test_a_setting_that_names_another_says_where_names_are_listed(shop, name):
    run = await of_the_api(
        shop, {"name": "s", "type": "http", "url": f"https://x.example/${{env:{name}}}"}
    )
    assert run["status"] == "failed"
    assert f"`${{env:{name}}}`" in run["reason"]
    assert LISTED in run["reason"]


async def saved(shop, step, reach, **more):
    job = {"name": "j", "steps": [step], **more}
    return await catalog.create(shop.db, shop.bell, job, by="user:alice", env=reach)


LISTING = EnvReach(listed=frozenset({"OPEN"}))
NAMING = [
    (looking("OPEN", "CLOSED"), {}, ("steps", "0")),
    ({"name": "s", "type": "http", "url": "https://x.example/${env:CLOSED}"}, {}, ("steps", "0")),
    (
        {"name": "s", "type": "http", "url": "https://x/", "headers": {"A": "${CLOSED}"}},
        {},
        ("steps", "0"),
    ),
    (looking("OPEN"), {"params": {"a": ["${env:CLOSED:-x}"]}}, ("params",)),
]


@pytest.mark.parametrize(("step", "more", "path"), NAMING)
async def test_what_is_not_listed_is_refused_when_it_is_saved(shop, step, more, path):
    await shop.declare("", **FILES)
    with pytest.raises(SpecErrors) as refused:
        await saved(shop, step, LISTING, **more)
    [problem] = refused.value.problems
    assert (problem.path, problem.code) == (path, Code.FORBIDDEN)
    assert "`CLOSED`" in problem.message
    assert LISTED in problem.message
    await saved(shop, looking("OPEN"), LISTING)
    assert (await shop.run("j"))["status"] == "succeeded"
    raw = {"name": "j", "steps": [step], **more}
    with pytest.raises(SpecErrors):
        await catalog.update(shop.db, shop.bell, raw, by="user:alice", env=LISTING)


async def test_an_administrator_may_let_a_job_read_any_name(shop):
    await shop.declare("", **FILES)
    job = {"name": "j", "steps": [looking("CLOSED")], "enabled": False}
    await catalog.create(shop.db, shop.bell, job, by="user:alice")
    assert (await shop.run("j"))["status"] == "failed"
    # The same definition, saved by someone who may.
    everything = EnvReach(any_name=True, listed=frozenset())
    await catalog.update(shop.db, shop.bell, job, by="user:root", env=everything)
    run = await shop.run("j")
    [step] = await shop.steps(run["id"])
    assert step["output"]["CLOSED"] == SECRET[::-1]
    # Whoever only switches it on takes nothing away, whoever changes it for a listed name does.
    await catalog.enable(shop.db, shop.bell, "j", enabled=True, by="user:alice")
    assert (await shop.run("j"))["status"] == "succeeded"
    job = {"name": "j", "steps": [looking("OPEN")]}
    await catalog.update(shop.db, shop.bell, job, by="user:alice", env=LISTING)
    run = await shop.run("j")
    [step] = await shop.steps(run["id"])
    assert step["output"] == {"OPEN": "open-to-the-api"[::-1], "CLOSED": ""}


async def test_a_name_that_a_file_s_job_lists_and_env_lacks_is_warned_of(shop):
    toml = """
        [[jobs]]
        name = "j"
        [[jobs.steps]]
        name = "s"
        type = "python"
        callable = "probe:look"
        env = ["CLOSED", "MISSING"]
        """
    await shop.declare(toml, **FILES)
    run = await shop.run("j")
    assert run["status"] == "succeeded", run["error"]
    said = "the project's .env has no variable `MISSING`, which `env` names: the function has none"
    assert said in await shop.lines(run["id"])
