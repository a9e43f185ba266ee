"""Options of commands that start a run: what this one run does differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from nomaflow.cli import run_arguments

Param = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="A parameter of this run; JSON where it is JSON, else text. May be repeated.",
    ),
]
Kwarg = Annotated[
    list[str] | None,
    typer.Option(
        "--kwarg",
        metavar="STEP.NAME=VALUE",
        help="An argument of one step in this run. May be repeated.",
    ),
]
Step = Annotated[
    list[str] | None,
    typer.Option(
        "--step",
        metavar="NAME=on|off",
        help="Switch a step on or off in this run. May be repeated.",
    ),
]
LogLevel = Annotated[
    str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR; this run.")
]
Follow = Annotated[
    bool,
    typer.Option("--follow", "-f", help="Watch until it is over; status 1 if it failed."),
]


def overrides(
    param: Param, kwarg: Kwarg, step: Step, log_level: LogLevel, **more: Any
) -> Mapping[str, Any]:
    """Give the API's input of these options and of `more`, without what was not said."""
    wanted = {
        "params": run_arguments.params(param or ()) or None,
        "stepKwargs": run_arguments.step_kwargs(kwarg or ()) or None,
        "stepEnabled": run_arguments.step_enabled(step or ()) or None,
        "logLevel": log_level and log_level.upper(),
        **more,
    }
    return {name: value for name, value in wanted.items() if value is not None}
