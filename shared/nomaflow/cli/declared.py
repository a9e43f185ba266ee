"""`nomaflow check` and `nomaflow schema`: what a project says in its files; nothing runs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nomaflow.project.jobs import FileProblem
    from nomaflow.store.problems import ProblemRow

PROJECT = Annotated[Path, typer.Option(help="The project folder.", envvar="NOMAFLOW_PROJECT")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="A project's files")(check)
    app.command(rich_help_panel="A project's files")(schema)


def check(
    project: PROJECT = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Read every file of a project; exit with 2 when something in them is wrong."""
    from nomaflow.in_force import declarations, named_connectors, relations, upstream
    from nomaflow.project.folder import Project

    found = Project(project).read_jobs()
    between = relations.among_files(project / "plugins", found.jobs)
    between += upstream.missing_calendars(found.jobs, Project(project).calendars())
    declared = declarations.of_files(found.jobs)
    between += named_connectors.of_files(Project(project).connectors(), declared)
    other = Project(project).other_problems()
    problems: list[FileProblem | ProblemRow] = [*found.problems, *other, *between]
    if as_json:
        words = {
            "jobs": [job.spec.name for job in found.jobs],
            "problems": [
                {"file": p.file, "line": p.line, "path": list(p.path), "message": p.message}
                for p in problems
            ],
        }
        print(json.dumps(words, indent=2))
    else:
        for problem in problems:
            print(f"{problem.file}:{problem.line or 1}: {problem.message}")
        jobs = "1 job" if len(found.jobs) == 1 else f"{len(found.jobs)} jobs"
        count = "1 problem" if len(problems) == 1 else f"{len(problems) or 'no'} problems"
        print(f"{jobs} can be loaded, {count}.")
    if problems:
        raise typer.Exit(2)


class File(StrEnum):
    """The files that a schema is printed for."""

    JOBS = "jobs"
    CALENDARS = "calendars"


def schema(
    file: Annotated[File, typer.Argument(help="Of which file.")] = File.JOBS,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: print it.")
    ] = None,
) -> None:
    """Print the JSON Schema of jobs.toml, for editors (`#:schema ./nomaflow.schema.json`).

    `nomaflow schema calendars` prints that of calendars.toml.
    """
    from nomaflow.project import calendar_schema
    from nomaflow.project import schema as of_jobs

    of_file = calendar_schema if file is File.CALENDARS else of_jobs
    text = json.dumps(of_file.json_schema(), indent=2) + "\n"
    if output is None:
        print(text, end="")
    else:
        output.write_text(text)
        print(f"Written to {output}.")
