"""How an HTTP request shows who sends it: the kinds of credentials a step or connector may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    field_validator,
)

from nomaflow.connectors.http import headers

_OWN_FIELDS = frozenset({"grant_type", "client_id", "client_secret", "scope", "audience"})


class _Auth(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


Given = Annotated[str, Field(min_length=1)]
Secret = Annotated[str, Field(min_length=1, repr=False)]


class BearerAuth(_Auth):
    """`Authorization: Bearer <token>` (RFC 6750)."""

    type: Literal["bearer"]
    token: Secret = Field(description="The token.")


class BasicAuth(_Auth):
    """HTTP basic authentication (RFC 7617)."""

    type: Literal["basic"]
    username: str = Field(description="The user; no colon.")
    password: str = Field(repr=False, description="The password.")

    @field_validator("username")
    @classmethod
    def _one_part(cls, value: str) -> str:
        if ":" in value and "${" not in value:
            raise ValueError("the user's name holds a colon, which ends it (RFC 7617)")
        return value


class ApiKeyAuth(_Auth):
    """A key in a header or in the query string."""

    type: Literal["api_key"]
    key: Secret = Field(description="The key itself.")
    name: Given = Field("X-API-Key", description="The header or query parameter that carries it.")
    place: Literal["header", "query"] = Field("header", alias="in", description="Where it goes.")

    @field_validator("name")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if "${" not in value:
            headers.checked({value: ""})
        return value


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) and "${" not in value else value


class OAuth2Auth(_Auth):
    """OAuth2 client credentials (RFC 6749 section 4.4): the token is fetched, kept and renewed."""

    type: Literal["oauth2"]
    token_url: Given = Field(description="Where tokens are issued.")
    client_id: Given = Field(description="The client.")
    client_secret: Secret = Field(description="Its secret.")
    scope: Annotated[tuple[str, ...] | str, BeforeValidator(_words)] = Field(
        (), description="Scopes: an array, or text with spaces between them."
    )
    audience: str | None = Field(None, description="What the token is for, where that is asked.")
    params: dict[str, str] = Field(
        default_factory=dict, description="Further fields of the token request, as `resource`."
    )
    client_auth: Literal["basic", "body"] = Field(
        "basic", description="How the client shows itself: a Basic header, or fields of the body."
    )

    @field_validator("token_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if "${" not in value and not value.lower().startswith(("https://", "http://")):
            raise ValueError("the token URL is not absolute; begin it with https://")
        return value

    @field_validator("params")
    @classmethod
    def _further_ones(cls, value: dict[str, str]) -> dict[str, str]:
        if own := sorted(_OWN_FIELDS & set(value)):
            raise ValueError(f"`{own[0]}` has a setting of its own or is set by the request itself")
        return value


class AwsSigV4Auth(_Auth):
    """AWS Signature Version 4."""

    type: Literal["aws_sigv4"]
    access_key: Given = Field(description="The access key id.")
    secret_key: Secret = Field(description="The secret access key.")
    region: Given = Field(description="The region, as `eu-west-3`.")
    service: Given = Field(description="The service, as `s3` or `execute-api`.")
    session_token: str | None = Field(
        None, repr=False, description="A temporary credential's token."
    )


AnyAuth = BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth | AwsSigV4Auth
TYPES = ("bearer", "basic", "api_key", "oauth2", "aws_sigv4")


def _of_known_type(value: Any) -> Any:
    """Refuse what is none of them in words of ours: pydantic's would repeat the secrets in it."""
    given = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    if not isinstance(given, str) or given not in TYPES:
        what = "names no" if given is None else "has an unknown"
        known = ", ".join(TYPES)
        raise ValueError(f"`auth` {what} type; write a table whose `type` is one of {known}")
    return value


Auth = Annotated[AnyAuth, Discriminator("type"), BeforeValidator(_of_known_type)]


def _texts(value: Any) -> Any:
    """Numbers and truth as text, since a parameter keeps its type; a header of nothing is none."""
    if not isinstance(value, dict):
        return value
    given = {name: part for name, part in value.items() if part is not None}
    return {
        name: (str(part).lower() if isinstance(part, bool) else str(part))
        if isinstance(part, bool | int | float)
        else part
        for name, part in given.items()
    }


Headers = Annotated[dict[str, str], BeforeValidator(_texts), AfterValidator(headers.checked)]
