"""What an operator may set: every NOMAFLOW_* variable, its unit and its default.

Read once, at the door, by the main of each program; values are passed inward from there.
Only the process environment is read; the project's `.env` holds secrets for jobs, not settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nomaflow.clock import schedule
from nomaflow.errors import Code, NomaflowError
from nomaflow.vault import SHORTEST_KEY, split

PREFIX = "NOMAFLOW_"
# Read by the command line as a client of a running API, not by the programs.
CLIENT_NAMES = frozenset({"NOMAFLOW_URL", "NOMAFLOW_TOKEN"})


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]


class Settings(BaseSettings):
    """One installation's settings; secrets show as stars wherever they are printed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 18 or newer: postgresql://user:password@host/database."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey: redis://host:6379/0, rediss://... or unix:///path."
    )
    home: Path | None = Field(
        None, description="Folder of `nomaflow up`: embedded servers, admin token, secret key."
    )
    project: Path | None = Field(
        None, description="The project folder: jobs.toml, connectors.toml, plugins/, .env."
    )
    env_file: Path | None = Field(
        None, description="File of secrets for ${env:NAME}; default: .env in the project."
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, ge=1, le=65535, description="Port the API listens on.")
    admin_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token with every permission; 16 characters or more.",
    )
    secret_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Encrypts secrets of connectors made through the API; 16 characters or more. "
        "Several, separated by commas: the first encrypts, each decrypts.",
    )
    timezone: str = Field("UTC", description="IANA timezone of jobs that name none.")
    scheduler_enabled: bool = Field(
        default=True, description="false: this installation never fires by cron and still serves."
    )
    worker_tags: Words = Field(
        ("default",), description="Kinds of job this worker takes, comma separated."
    )
    worker_capacity: int = Field(
        10, ge=1, le=1000, description="Runs one worker carries at the same time."
    )
    lease_seconds: float = Field(
        15.0, ge=3, le=600, description="A worker silent for this long has lost its runs; seconds."
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="A stopping worker waits so long for its steps; seconds."
    )
    history_days: int = Field(
        90, ge=1, le=36500, description="Runs are pruned when older than this; days."
    )
    run_log_max_lines: int = Field(
        1_000_000,
        ge=100,
        description="Log lines kept of one run; then a marker, and only warnings and errors.",
    )
    external_stale_minutes: float = Field(
        1440,
        gt=0,
        le=525_600,
        description="An outside run without a sign of life for so long is stale; minutes.",
    )
    log_truncate_kb: int = Field(
        64, ge=1, le=1024, description="Longest log line or output preview kept; KiB."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Look of the programs' own log; auto: console on a terminal, else json."
    )
    graphiql: bool = Field(default=True, description="false: the API does not serve GraphiQL.")
    http_private: bool = Field(
        default=True,
        description="off: http steps of file jobs may not reach loopback and private addresses.",
    )
    http_allow: Words = Field(
        (), description="Hosts that http steps may always reach, comma separated."
    )
    http_only: Words = Field(
        (), description="The only hosts that http steps may reach, comma separated; empty: any."
    )
    api_env_allow: Words = Field(
        (),
        description="Names of .env that jobs made through the API may read, comma separated; a job "
        "that an administrator saves may read any.",
    )

    @classmethod
    def read(cls) -> Self:
        """Read the environment; one NomaflowError (INVALID) names every variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            wrong = [
                f"{PREFIX}{str(problem['loc'][0]).upper()}: {_sentence(problem['msg'])}"
                for problem in error.errors(include_input=False, include_url=False)
            ]
            raise NomaflowError(Code.INVALID, "\n".join(wrong)) from None

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            schedule.zone(name)
        except NomaflowError as error:
            raise ValueError(error.message) from None
        return name

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("secret_key")
    @classmethod
    def _long_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys and any(len(key) < SHORTEST_KEY for key in split(keys.get_secret_value())):
            raise ValueError(f"each key must have {SHORTEST_KEY} characters or more")
        return keys

    @property
    def secret_keys(self) -> str | None:
        """The keys in clear, or None; `Vault.of` takes them."""
        return self.secret_key.get_secret_value() if self.secret_key else None

    @property
    def database(self) -> str:
        """The database's URL in clear; NomaflowError (INVALID) says what to do without one."""
        return _required(self.database_url, "DATABASE_URL")

    @property
    def redis(self) -> str:
        """The Redis URL in clear; NomaflowError (INVALID) says what to do without one."""
        return _required(self.redis_url, "REDIS_URL")


def variable(field: str) -> str:
    """Name the environment variable of a field."""
    return f"{PREFIX}{field.upper()}"


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """List NOMAFLOW_* variables that nothing reads: a slip of the pen would go unnoticed."""
    known = {variable(field) for field in Settings.model_fields} | CLIENT_NAMES
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _required(url: SecretStr | None, name: str) -> str:
    if url is None:
        raise NomaflowError(
            Code.INVALID,
            f"{PREFIX}{name} is not set. Set it, join a running `nomaflow up` with --home DIR, "
            "or let `nomaflow up` start everything.",
        )
    return url.get_secret_value()


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")
