"""Step types of other packages: used like ours, and told when they cannot be used."""

import sys
from pathlib import Path

import pytest
from workshop import working

from nomaflow.errors import NomaflowError
from nomaflow.job import step_defaults
from nomaflow.steps import installed, registry

HERE = Path(__file__).parents[1] / "third_party"
BROKEN = {
    "absent": "nowhere_at_all:X",
    "leaves": "leaves:X",
    "not_a_step": "broken_steps:NotAStep",
    "other_name": "broken_steps:OtherName",
    "untitled": "broken_steps:Untitled",
    "takes_common": "broken_steps:TakesCommon",
    "unspeakable": "broken_steps:Unspeakable",
    "http": "broken_steps:Http",
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Install packages as pip would, into a folder of this test's own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def install(name: str, modules: dict[str, str], entries: dict[str, str]) -> None:
        for module, text in modules.items():
            (folder / f"{module}.py").write_text(text)
            monkeypatch.delitem(sys.modules, module, raising=False)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {value}" for entry, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{installed.GROUP}]", *lines]))
        forget()

    def forget() -> None:
        installed.found.cache_clear()
        step_defaults.fields_of.cache_clear()

    forget()
    yield install
    for module in ("acme_steps", "broken_steps", "leaves"):
        sys.modules.pop(module, None)
    monkeypatch.undo()
    forget()


@pytest.fixture
def acme(packages):
    text = (HERE / "acme-steps" / "acme_steps.py").read_text()
    entries = {"acme_checksum": "acme_steps:Checksum", "acme_touch": "acme_steps:Touch"}
    packages("acme_steps", {"acme_steps": text}, entries)


JOBS = """
[step_defaults]
digits = 8

[[jobs]]
name = "check"
params = { most = 3, path = "" }
[[jobs.steps]]
name = "sum"
type = "acme_checksum"
query = "SELECT generate_series(1, :most::int) AS n"
params = { most = "${kw:most}" }
[[jobs.steps]]
name = "touch"
type = "acme_touch"
path = "${kw:path}"
when = "steps.sum.output.rows == `3`"
"""


async def test_a_type_of_a_package_runs_like_ours(acme, shop, tmp_path):
    assert {"acme_checksum", "acme_touch"} < registry.all_types().keys()
    assert registry.json_schema("acme_checksum")["properties"]["query"]["type"] == "string"
    synced = await shop.declare(JOBS)
    assert synced.problems == 0
    path = tmp_path / "touched"
    async with working(shop):
        rehearsed = await shop.run("check", params={"path": str(path)}, dry_run=True)
        assert rehearsed["status"] == "succeeded", rehearsed["reason"]
        checked, touched = await shop.steps(rehearsed["id"])
        assert checked["output"]["rows"] == 3
        words = "would run the acme_touch step `touch`"
        assert touched["output"] == {"dry_run": True, "executed": False, "would": words}
        assert not path.exists()

        run = await shop.run("check", params={"path": str(path)})
    assert run["status"] == "succeeded", run["reason"]
    checked, touched = await shop.steps(run["id"])
    assert len(checked["output"]["checksum"]) == 8
    assert checked["summary"].startswith("3 rows · ")
    assert path.exists()


async def test_its_settings_are_checked_like_ours(acme, shop):
    await shop.declare(
        JOBS.replace("SELECT generate", "DELETE generate").replace("path =", "pat =")
    )
    said = [row["message"] for row in await shop.db.fetch("SELECT message FROM catalog_problems")]
    assert any("`query`: write a SELECT" in message for message in said)
    assert any("has no field `pat`; did you mean `path`?" in message for message in said)


async def test_packages_that_cannot_be_used_are_told_and_stop_nothing(packages, shop):
    modules = {
        "broken_steps": (HERE / "broken_steps.py").read_text(),
        "leaves": "import sys; sys.exit('leaving')",
    }
    packages("broken", modules, BROKEN)
    assert registry.broken().keys() == BROKEN.keys()
    assert registry.all_types().keys() == {step.type_name for step in registry.OURS}
    await shop.declare(
        """
        [[jobs]]
        name = "good"
        [[jobs.steps]]
        name = "a"
        type = "sql_query"
        connector = "default"
        query = "SELECT 1"
        [[jobs]]
        name = "bad"
        [[jobs.steps]]
        name = "a"
        type = "leaves"
        """
    )
    rows = await shop.db.fetch("SELECT file, path, message FROM catalog_problems ORDER BY message")
    said = {tuple(row["path"])[-1]: row["message"] for row in rows if row["file"][0] == "("}
    assert said.keys() == BROKEN.keys()
    for name, words in (
        ("absent", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("leaves", "SystemExit: leaving"),
        ("not_a_step", "is not a subclass of nomaflow.steps.base.Step"),
        ("other_name", "calls itself 'something_else', its entry point 'other_name'"),
        ("untitled", "has no `title`"),
        ("takes_common", "its setting `retry` has the name of a field that every step has"),
        ("unspeakable", "Cannot generate a JsonSchema"),
        ("http", "that is the name of one of Nomaflow's own step types"),
    ):
        assert words in said[name], said[name]
    (wrong,) = [row["message"] for row in rows if row["file"] == "jobs.toml"]
    assert "step `a`: the step type `leaves` of a package cannot be used: SystemExit" in wrong
    async with working(shop):
        assert (await shop.run("good"))["status"] == "succeeded"
    with pytest.raises(NomaflowError, match="could not be loaded: SystemExit: leaving"):
        registry.step_type("leaves")


def test_two_packages_with_one_name(packages):
    text = (HERE / "acme-steps" / "acme_steps.py").read_text()
    packages("one", {"acme_steps": text}, {"acme_touch": "acme_steps:Touch"})
    packages("two", {}, {"acme_touch": "acme_steps:Touch"})
    assert "acme_touch" in registry.all_types()
    assert "another package" in registry.broken()["acme_touch"]
