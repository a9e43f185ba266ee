"""What alerts.toml says: the channels that alerts can go to, and the ways to them.

A channel that is wrong is reported and left out; the others keep working. No `${env:...}` is
filled in here. Source of the fields:
seed 001 (Slack, a framework default) and the second vocabulary's webhook channels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nomaflow.connectors.http import headers
from nomaflow.job.problems import Problem, sentence
from nomaflow.language import template

DEFAULT = "default"
"""Written on a delivery whose job names no recipient while no channel is the default one."""

WORDS = (
    "job_name",
    "job_id",
    "run_id",
    "state",
    "event",
    "step",
    "error",
    "triggered_by",
    "started_at",
    "finished_at",
    "url",
    "app",
)
"""What `${...}` in a channel's template may name; `job_id` is the job's name too (seed 000)."""

LATER = ("email", "teams", "pagerduty", "apprise")
TABLES_LATER = ("quiet_hours",)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_WORD = re.compile(r"\$\$\{|\$\{([^{}]*)\}")


class ChannelSpec(BaseModel):
    """One place that alerts go to: `[channels.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["slack", "webhook"] = Field(
        description="`slack`: a Slack-compatible incoming webhook; `webhook`: any address, JSON."
    )
    url: str = Field(
        min_length=1,
        repr=False,
        description="Where the alert is posted; keep it in .env: `${env:SLACK_WEBHOOK_URL}`.",
    )
    default: bool = Field(
        default=False, description="Alerts of jobs that name no recipients come here."
    )
    template: str | None = Field(
        None,
        description="The message in your own words, with `${job_name}` and the like; for a "
        "webhook the whole body, JSON or text.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="Further request headers (webhook), such as Authorization.",
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _known_kind(cls, kind: object) -> object:
        if kind in LATER:
            raise ValueError(f"`{kind}` is not available in this version; use slack or webhook")
        return kind

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        _only_env(url)
        if not url.startswith(("https://", "http://", "${")):
            raise ValueError("must be an http:// or https:// address, best from ${env:NAME}")
        return url

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, given: dict[str, str]) -> dict[str, str]:
        for value in given.values():
            _only_env(value)
        return dict(headers.checked(given))

    @field_validator("template")
    @classmethod
    def _known_words(cls, text: str | None) -> str | None:
        for match in _WORD.finditer(text or ""):
            if match[1] is not None and match[1] not in WORDS:
                raise ValueError(f"`{match[0]}` is not known; there is {_listed(WORDS)}")
        return text


class RouteSpec(BaseModel):
    """Where alerts of some runs go when their job names no recipients: `[[routes]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str | None = Field(
        None, description="Runs of that name, outside ones too; `*` stands for any letters."
    )
    tag: str | None = Field(None, description="Runs of jobs with that tag.")
    app: str | None = Field(None, description="Runs of jobs of that app.")
    channel: str = Field(description="A channel of this file.")

    @model_validator(mode="after")
    def _names_one_thing(self) -> RouteSpec:
        if sum(word is not None for word in (self.job, self.tag, self.app)) != 1:
            raise ValueError("a route names one of `job`, `tag` and `app`")
        return self

    def fits(self, job: str, app: str, tags: Collection[str]) -> bool:
        """Tell whether a run goes this way."""
        if self.job is not None:
            return fnmatchcase(job, self.job)
        return self.tag in tags if self.tag is not None else self.app == app


@dataclass(frozen=True, slots=True)
class Channels:
    """Every channel and route that can be used, and what was wrong with the others."""

    by_name: Mapping[str, ChannelSpec] = field(default_factory=dict)
    routes: tuple[RouteSpec, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def default(self) -> str | None:
        """The channel marked default, or the only one there is."""
        marked = [name for name, channel in self.by_name.items() if channel.default]
        if marked:
            return marked[0]
        return next(iter(self.by_name)) if len(self.by_name) == 1 else None

    def routed(self, job: str, app: str, tags: Collection[str]) -> tuple[str, ...]:
        """The channels that routes lead a run's alerts to, each once (A07)."""
        fitting = (route.channel for route in self.routes if route.fits(job, app, tags))
        return tuple(dict.fromkeys(fitting))

    @property
    def slack(self) -> str | None:
        """The channel that `#room` and `@person` go through: the default one, or the first."""
        kinds = {name: channel.kind for name, channel in self.by_name.items()}
        if self.default and kinds[self.default] == "slack":
            return self.default
        return next((name for name, kind in kinds.items() if kind == "slack"), None)


def parse(raw: Mapping[str, Any]) -> Channels:
    """Read the tables of alerts.toml; nothing is raised, each problem has its place."""
    problems: list[Problem] = []
    for name in raw:
        if name in TABLES_LATER:
            problems.append(
                Problem((name,), f"`{name}` is not available in this version; remove it")
            )
        elif name not in ("channels", "routes"):
            problems.append(
                Problem(
                    (name,),
                    f"unknown table `{name}`; alerts.toml holds [channels.NAME] and [[routes]]",
                )
            )
    tables = raw.get("channels", {})
    if not isinstance(tables, Mapping):
        return Channels(
            problems=(*problems, Problem(("channels",), "write [channels.NAME] tables"))
        )
    found: dict[str, ChannelSpec] = {}
    for name, table in tables.items():
        try:
            _check_name(name)
            found[name] = ChannelSpec.model_validate(table)
        except ValidationError as error:
            problems += _of_pydantic(("channels", name), error, ChannelSpec)
        except ValueError as error:
            problems.append(Problem(("channels", name), str(error)))
    marked = [name for name, channel in found.items() if channel.default]
    problems += [
        Problem(("channels", name, "default"), f"`{marked[0]}` is the default channel already")
        for name in marked[1:]
    ]
    routes = _routes(raw.get("routes", []), found, problems)
    return Channels(found, routes, tuple(problems))


def _routes(
    tables: Any, channels: Mapping[str, ChannelSpec], problems: list[Problem]
) -> tuple[RouteSpec, ...]:
    found = []
    if not isinstance(tables, list):
        problems.append(Problem(("routes",), "write [[routes]] tables"))
        tables = []
    for at, table in enumerate(tables):
        path = ("routes", str(at))
        try:
            route = RouteSpec.model_validate(table)
        except ValidationError as error:
            problems += _of_pydantic(path, error, RouteSpec)
            continue
        if route.channel not in channels:
            there = _listed(channels) or "none"
            problems.append(
                Problem(
                    (*path, "channel"), f"there is no channel `{route.channel}`; it has {there}"
                )
            )
            continue
        found.append(route)
    return tuple(found)


def unknown_recipients(recipients: tuple[str, ...], channels: Channels) -> list[Problem]:
    """Say which of a job's recipients no alert could ever reach."""
    return [
        Problem(("recipients", str(at)), reason)
        for at, recipient in enumerate(recipients)
        if (reason := unreachable(recipient, channels))
    ]


def unreachable(recipient: str, channels: Channels) -> str | None:
    """Say why an alert cannot reach this recipient; None when it can."""
    if recipient in channels.by_name:
        return None
    if recipient.startswith(("#", "@")):
        if channels.slack:
            return None
        return f"`{recipient}` is a Slack room or person, and alerts.toml has no slack channel"
    if "@" in recipient:
        return f"`{recipient}` is an e-mail address; e-mail is not available in this version"
    there = f"it has {_listed(channels.by_name)}" if channels.by_name else "it has none"
    return f"there is no channel `{recipient}` in alerts.toml; {there}"


def fill(text: str, words: Mapping[str, str]) -> str:
    """Replace each `${word}` of a template, once; `$${` is a literal `${`."""
    return _WORD.sub(lambda m: "${" if m[1] is None else words.get(m[1], ""), text)


def _only_env(text: str) -> None:
    try:
        found = template.tokens(text)
    except template.TemplateError as error:
        raise ValueError(error.message) from None
    for token in found:
        if token.namespace != "env":
            raise ValueError(f"`{token.text}`: only ${{env:NAME}} can be used here")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"`{name}` cannot name a channel: letters, digits, `-`, `_` and `.`, up to 128"
        )


def _of_pydantic(
    path: tuple[str, ...], error: ValidationError, model: type[BaseModel]
) -> list[Problem]:
    return [
        Problem(
            (*path, *(str(part) for part in problem["loc"])),
            sentence(problem, model.model_fields),
        )
        for problem in error.errors(include_url=False)
    ]
