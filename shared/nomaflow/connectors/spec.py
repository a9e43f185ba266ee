"""What connectors.toml says about an outside system, before any `${...}` in it is rendered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from nomaflow.connectors import query_params, statement
from nomaflow.connectors.http import literal
from nomaflow.connectors.http.auth import Auth, Headers
from nomaflow.connectors.ldap import url as ldap_url
from nomaflow.connectors.query_params import ParamType
from nomaflow.errors import Code, NomaflowError

Token = Annotated[str, Field(pattern=r"\$\{")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueryParam(_Part):
    """A declared parameter of a named query."""

    type: ParamType = Field(
        "string", description="What the value must be; text that says it is taken for it."
    )
    required: bool = Field(default=False, description="Whether a call without it is refused.")
    default: Any = Field(None, description="The value of a call that leaves it out.")
    description: str = Field("", description="Words for people.")

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        try:
            query_params.coerced(self.type, self.default)
        except ValueError as error:
            raise ValueError(f"the default {error}") from None
        return self


class NamedQuery(_Part):
    """SQL kept with its connector; steps refer to it as `name` or `name:write`."""

    operation: Literal["read", "write"] = Field(
        "read", description="`write` lets it change data; steps then say `name:write`."
    )
    sql: str = Field(description="One statement with `:name` parameters.")
    description: str = Field("", description="Words for people.")
    params: dict[str, QueryParam] = Field(
        default_factory=dict, description="Declared parameters by name."
    )

    @model_validator(mode="after")
    def _declares_what_it_uses(self) -> Self:
        readings = statement.readings(self.sql)
        if not readings:
            raise ValueError("the SQL text marks its parameters otherwise than as `:name`")
        unused = sorted(set(self.params) - set().union(*readings))
        if unused:
            raise ValueError(f"declares the parameter `{unused[0]}`, which its SQL does not use")
        if self.params and all(names - set(self.params) for names in readings):
            missing = sorted(readings[0] - set(self.params)) or sorted(readings[-1])
            raise ValueError(f"its SQL uses `:{missing[0]}`, which its `params` do not declare")
        return self


class ConnectorSpec(_Part):
    """What all kinds share; the kinds below add their own fields."""

    kind: Literal["sql", "http", "ldap"] = Field(description="What sort of system it is.")
    description: str = Field("", description="Words for people.")
    queries: dict[str, NamedQuery] = Field(
        default_factory=dict, description="Named queries (SQL connectors only)."
    )

    @model_validator(mode="after")
    def _only_sql_has_queries(self) -> Self:
        if self.queries and self.kind != "sql":
            raise ValueError("only SQL connectors have `queries`")
        return self

    def rendered(self, render: Callable[[Any], Any], folder: Path | None = None) -> ConnectorSpec:
        """The same connector with every `${...}` replaced, SQL of named queries left alone.

        A `ca_file` is looked for in `folder`. NomaflowError when a value, now that it is known,
        does not fit; the value is not repeated.
        """
        raw = self.model_dump(by_alias=True, exclude_unset=True, exclude={"queries"})
        whole = {key: render(value) for key, value in raw.items()}
        if folder is not None and whole.get("ca_file"):
            whole["ca_file"] = str(folder / whole["ca_file"])
        if self.queries:
            whole["queries"] = self.queries
        try:
            made = type(self).model_validate(whole)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False, include_context=False)
            words = "; ".join(f"`{'.'.join(map(str, e['loc']))}`: {e['msg']}" for e in wrong)
            raise NomaflowError(Code.INVALID, words) from None
        return made if folder is None else made.inside(folder)

    def inside(self, _folder: Path) -> Self:
        """The same connector, its files looked for in that folder."""
        return self


class SqlConnectorSpec(ConnectorSpec):
    """A database, by URL or by parts."""

    kind: Literal["sql"] = Field("sql", description="A database.")
    url: str | None = Field(
        None,
        repr=False,
        description="postgresql://user:password@host:port/database, mysql://..., sqlite:///file",
    )
    driver: str | None = Field(
        None, description="Instead of a URL: postgresql, mysql, sqlite, oracle or mssql."
    )
    host: str | None = Field(None, description="Host name or address.")
    port: int | Token | None = Field(None, description="Port; each driver has its own default.")
    database: str | None = Field(None, description="Database name; for sqlite, the file.")
    user: str | None = Field(None, description="Role to connect as.")
    password: str | None = Field(
        None, repr=False, description="Its password; any character, nothing to escape."
    )
    ssl_mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | (
        Token | None
    ) = Field(None, description="disable, allow, prefer, require, verify-ca or verify-full.")
    ca_file: str | None = Field(
        None, description="Certificates to trust, PEM, relative to the project folder."
    )
    pool_size: Annotated[int, Field(ge=1, le=100)] | Token = Field(
        5, description="At most so many connections per worker at once."
    )
    pool_wait_seconds: Annotated[float, Field(gt=0, le=86_400)] | Token = Field(
        60.0, description="How long a step waits for one of them to be given back."
    )
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=600)] | Token | None = Field(
        None, description="How long making a connection may take; absent: 10."
    )
    statement_timeout_seconds: Annotated[float, Field(gt=0, le=604_800)] | Token | None = Field(
        None, description="How long one statement may take; absent: only the step's own limit."
    )
    trim_strings: bool = Field(
        default=False, description="Whether text read from it loses its trailing blanks."
    )
    coalesce_nulls: bool = Field(
        default=False,
        description="As a target of sql_copy: empty or no text becomes one blank, no number 0.",
    )

    def inside(self, folder: Path) -> Self:
        url = urlsplit(self.url or f"{self.driver}:///")
        path = unquote(url.path[1:]) if self.url else self.database or ""
        is_file = url.scheme.startswith("sqlite") and not url.netloc and not url.query
        if not is_file or not path or path.startswith(":"):
            return self
        # An absolute path stays what it is.
        return self.model_copy(
            update={"url": None, "driver": "sqlite", "database": str(folder / path)}
        )

    @model_validator(mode="after")
    def _url_or_parts(self) -> SqlConnectorSpec:
        parts = [
            name
            for name in ("driver", "host", "port", "database", "user", "password")
            if getattr(self, name)
        ]
        if self.url and parts:
            raise ValueError(f"give `url` or its parts, not both (also given: {', '.join(parts)})")
        if not self.url and not self.driver:
            raise ValueError(
                "give `url`, or `driver` with `host`, `database`, `user` and `password`"
            )
        return self


class HttpConnectorSpec(ConnectorSpec):
    """An HTTP API: where it is, and what every request carries."""

    kind: Literal["http"] = Field("http", description="An HTTP API.")
    url: str = Field(repr=False, description="The base URL; steps then give relative ones.")
    headers: Headers = Field(
        default_factory=dict, repr=False, description="Sent with every request."
    )
    auth: Auth | None = Field(
        None,
        repr=False,
        description="Credentials: bearer, basic, api_key, oauth2 or aws_sigv4.",
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | Token | None = Field(
        None, description="What one request may take, to its last byte; absent: the step's time."
    )
    max_connections: Annotated[int, Field(ge=1, le=100)] | Token = Field(
        10, description="At most so many requests per worker at once; others wait."
    )
    ca_file: str | None = Field(
        None,
        description="The only authorities to trust, PEM, relative to the project folder; "
        "absent: the known ones.",
    )
    proxy: str | None = Field(
        None, repr=False, description="An HTTP proxy to go through: http://user:password@host:port"
    )

    @field_validator("url", "proxy")
    @classmethod
    def _an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and "${" not in value and not value.lower().startswith(("https://", "http://")):
            raise ValueError(f"`{info.field_name}` is not absolute; begin it with https://")
        if value and (why := literal.wrong(value, relative=False)):
            raise ValueError(why)
        return value


class LdapConnectorSpec(ConnectorSpec):
    """A directory."""

    kind: Literal["ldap"] = Field("ldap", description="A directory.")
    url: str = Field(description="ldaps://host or ldap://host, with :port when it is another.")
    bind_dn: str | None = Field(None, description="Who binds; absent: anonymous.")
    bind_password: str | None = Field(None, repr=False, description="Its password.")
    ca_file: str | None = Field(
        None,
        description="Authorities to trust besides the known ones, PEM, relative to the project.",
    )
    start_tls: bool = Field(
        default=False, description="Encrypt an ldap:// connection before binding."
    )
    allow_plaintext: bool = Field(
        default=False,
        description="Let the password travel unencrypted to another machine.",
    )
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=600)] | Token = Field(
        10, description="How long to wait for a connection, in seconds."
    )
    receive_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | Token = Field(
        60, description="How long to wait for each part of an answer, in seconds."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if "${" not in self.url:
            encryption = ldap_url.parts(self.url)[2]
            if self.start_tls and encryption == "ldaps":
                raise ValueError("ldaps:// is encrypted from the start; leave `start_tls` out")
        if self.bind_dn and self.bind_password is None:
            raise ValueError("`bind_dn` needs a `bind_password`")
        if self.bind_password and not self.bind_dn:
            raise ValueError("`bind_password` needs a `bind_dn`")
        return self


AnyConnector = Annotated[
    SqlConnectorSpec | HttpConnectorSpec | LdapConnectorSpec, Discriminator("kind")
]
_adapter: TypeAdapter[SqlConnectorSpec | HttpConnectorSpec | LdapConnectorSpec] = TypeAdapter(
    AnyConnector
)


def parse(raw: Mapping[str, Any]) -> SqlConnectorSpec | HttpConnectorSpec | LdapConnectorSpec:
    """One table of connectors.toml; pydantic's ValidationError lists what is wrong with it."""
    return _adapter.validate_python(raw)


def fields_of(kind: str) -> list[str]:
    """The settings of a kind of connector, those of every kind for an unknown one."""
    kinds: dict[str, type[ConnectorSpec]] = {
        "sql": SqlConnectorSpec,
        "http": HttpConnectorSpec,
        "ldap": LdapConnectorSpec,
    }
    return sorted(kinds.get(kind, ConnectorSpec).model_fields)


def json_schema() -> dict[str, Any]:
    """JSON Schema of one connector, for editors."""
    return _adapter.json_schema(by_alias=True)
