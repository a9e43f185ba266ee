"""docs/reference/cli.md names every command and every option, under its command's heading."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption

from nomaflow.cli.main import gather

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
COMMON = {"--url", "--home", "--json"}


def commands(command, words=("nomaflow",)):
    """All commands that do something, with the words that call them."""
    if isinstance(command, TyperGroup):
        if command.invoke_without_command and len(words) > 1:
            yield " ".join(words), command
        for name, inner in command.commands.items():
            yield from commands(inner, (*words, name))
    else:
        yield " ".join(words), command


ALL = dict(commands(typer.main.get_command(gather())))


def sections():
    """The text under each heading that names commands."""
    found = {}
    for part in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        for name in re.findall(r"`(nomaflow [a-z -]+?)(?: [A-Z]+)*`", heading):
            found[name] = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return found


def test_each_command_has_a_heading_and_each_heading_a_command():
    assert set(sections()) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_each_option_is_in_its_command_s_section(name):
    options = {
        word
        for parameter in ALL[name].params
        if isinstance(parameter, TyperOption)
        for word in (*parameter.opts, *parameter.secondary_opts)
    } - {"--help", "-h"}
    if options >= COMMON:  # one table tells these for all commands that talk to the API
        options -= COMMON
    table = re.findall(r"^\| (`-.*?) \|", sections()[name], re.MULTILINE)
    written = {word for row in table for word in re.findall(r"`(--?[a-z][a-z-]*)`", row)}
    assert options == written
