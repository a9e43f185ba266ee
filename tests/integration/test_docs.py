"""Documentation under test: blocks load, links lead somewhere, tables equal the code."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import graphql
import pytest
import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from nomaflow.cli.main import gather
from nomaflow.lifecycle import RUN_EDGES, STEP_EDGES
from nomaflow.project.folder import Project
from nomaflow.settings import CLIENT_NAMES, Settings, variable
from nomaflow.steps import registry

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "examples").glob("*/*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(nomaflow .*|make .*)$", re.MULTILINE)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(language):
    return [
        pytest.param(text, id=f"{name_of(page)}-{number}")
        for page in PAGES
        for number, (found, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")))
        if found == language
    ]


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for inline, reference in LINK.findall(text):
        target = inline or reference
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        assert place.exists(), f"{name_of(page)} links to {target}"
        if anchor and place.suffix == ".md":
            assert anchor in anchors(place), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_loads(text, tmp_path):
    read = tomllib.loads(text)
    for key, file in (
        ("jobs", "jobs.toml"),
        ("connectors", "connectors.toml"),
        ("channels", "alerts.toml"),
        ("calendars", "calendars.toml"),
        ("blackouts", "calendars.toml"),
    ):
        if key in read:
            (tmp_path / file).write_text(text, encoding="utf-8")
    project = Project(tmp_path)
    problems = [*project.read_jobs().problems, *project.other_problems()]
    assert [p.message for p in problems] == []


@pytest.mark.parametrize("text", blocks("graphql"))
def test_graphql_fits_the_schema(text):
    schema = graphql.build_schema((ROOT / "schema.graphql").read_text(encoding="utf-8"))
    assert graphql.validate(schema, graphql.parse(text)) == []


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles(text):
    compile(text, "block", "exec")


@pytest.mark.parametrize("text", blocks("json"))
def test_json_loads(text):
    json.loads(text)


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_exist(text):
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in COMMAND.findall(text):
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert {w for w in words[1:] if "=" not in w} <= targets, line
        else:
            assert_parses(words[1:], line)


def assert_parses(words, line):
    """Walk down to the subcommand and let it read its options, without running anything."""
    command, name, context = typer.main.get_command(gather()), "nomaflow", None
    while isinstance(command, TyperGroup):
        if command.invoke_without_command and name != "nomaflow" and not words:
            return
        assert words, line
        if words[0].startswith("-"):  # an option of `nomaflow` itself
            break
        assert words[0] in command.commands, line
        context = command.context_class(command, parent=context, info_name=name)
        name, *words = words
        command = command.commands[name]
    if not {"--help", "-h", "--version"} & set(words):
        command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize(
    "line",
    [
        "nomaflow job runn hello",
        "nomaflow job run",
        "nomaflow job run hello --folow",
        "nomaflow job history hello --limit many",
        "nomaflow nothing",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line):
    with pytest.raises((AssertionError, TyperException)):
        assert_parses(shlex.split(line)[1:], line)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    pages = {p for p in pages if not p.startswith("decisions/")} - {"README.md"}
    assert {p for p in pages if f"]({p})" not in index} == set()


def test_decisions_have_numbers_of_their_own():
    names = [p.name for p in (ROOT / "docs/decisions").glob("*.md")]
    assert [n for n in names if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", n)] == []
    assert len({n[:4] for n in names}) == len(names)


def test_the_tree_names_every_room_of_the_library():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = re.search(r"^shared/nomaflow/(.*?)^services/", page, re.MULTILINE | re.DOTALL)[1]
    named = set(re.findall(r"\b[a-z_]+\b", tree))
    library = ROOT / "shared/nomaflow"
    rooms = {p.stem for p in library.glob("*.py")} | {p.parent.name for p in library.glob("*/*.py")}
    assert rooms - {"__init__"} - named == set(), "docs/architecture.md does not name these"


def test_every_setting_is_documented():
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(NOMAFLOW_\w+)` \| (.*) \|$", page, re.MULTILINE))
    expected = {
        variable(name): f"{shown(field.default)} | {field.description}"
        for name, field in Settings.model_fields.items()
    }
    assert rows == expected
    assert all(name in page for name in CLIENT_NAMES)


def shown(default):
    match default:
        case None | ():
            return "-"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
        case tuple():
            return f"`{','.join(default)}`"
        case _:
            return f"`{default}`"


@pytest.mark.parametrize(("heading", "edges"), [("Runs", RUN_EDGES), ("Steps", STEP_EDGES)])
def test_the_drawing_of_states_is_the_law(heading, edges):
    page = (ROOT / "docs/lifecycle.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    law = {(a.value, b.value) for a, onward in edges.items() for b in onward}
    assert set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section, re.MULTILINE)) == law
    drawn = set(re.findall(r"^ +(\w+) --> (\w+):", section, re.MULTILINE))
    assert drawn == law
    final = {s.value for s, onward in edges.items() if not onward}
    assert set(re.findall(r"^ +(\w+) --> \[\*\]$", section, re.MULTILINE)) == final


def test_the_table_of_step_types_is_the_registry():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Step types$(.*?)^## ", page, re.MULTILINE | re.DOTALL)[1]
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert listed == {step.type_name for step in registry.OURS}
