"""The `http` step: one request to an HTTP API."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from nomaflow.connectors.spec import Auth
from nomaflow.steps.base import Step

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class HttpStep(Step):
    """Send one HTTP request; the decoded answer goes to later steps whole."""

    type_name: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP request"

    connector: str | None = Field(
        None, description="An HTTP connector; its URL is the base of a relative `url`."
    )
    url: str = Field(min_length=1, description="Where to send the request.")
    method: Annotated[Method, BeforeValidator(_upper)] = Field(
        "GET", description="The HTTP method, in any case."
    )
    query: dict[str, Any] = Field(
        default_factory=dict, description="Query parameters, encoded; a list repeats its name."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers.")
    body: Any = Field(None, description="A table or array is sent as JSON, text as it is.")
    auth: Auth | None = Field(
        None, description="Credentials: bearer, basic, api_key, oauth2 or aws_sigv4."
    )
    expected_statuses: tuple[Annotated[int, Field(ge=100, le=599)], ...] = Field(
        (), description="Statuses that count as success; absent: any 2xx."
    )
    retry_count: int = Field(
        0, ge=0, le=100, description="Further tries inside one attempt of the step."
    )
    retry_delay_seconds: float = Field(
        5, ge=0, description="Wait between them, unless the server's Retry-After says more."
    )
    max_bytes: int = Field(
        10_000_000, ge=1, description="The largest decoded body accepted, in bytes."
    )
    follow_redirects: bool = Field(
        default=False, description="Follow up to 5 redirects, each checked anew."
    )
