"""The `http` step: one request to an HTTP API."""

from __future__ import annotations

import asyncio
import base64
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from nomaflow.connectors import http_client
from nomaflow.connectors.http import HttpSettings
from nomaflow.connectors.http_client import Reply, Request
from nomaflow.connectors.spec import Auth, Headers
from nomaflow.errors import StepError
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]

EXCERPT = 500
LONGEST_WAIT = 300.0
"""Seconds a retry inside the step may wait; a longer Retry-After is left to the step's policy."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REPEATABLE = _SAFE | {"PUT", "DELETE"}
_WORTH_RETRYING = frozenset({408, 425, 429})
_SHOWN_HEADERS = (
    "content-type",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-total-count",
)


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class HttpStep(Step):
    """Send one HTTP request; the decoded answer goes to later steps whole."""

    type_name: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP request"

    connector: str | None = Field(
        None, description="An HTTP connector; its URL is the base of a relative `url`."
    )
    url: str = Field(
        min_length=1,
        description="Where to send the request; under a connector, relative to its URL.",
    )
    method: Annotated[Method, BeforeValidator(_upper)] = Field(
        "GET", description="GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS, in any case."
    )
    query: dict[str, Any] = Field(
        default_factory=dict, description="Query parameters, encoded; a list repeats its name."
    )
    headers: Headers = Field(default_factory=dict, description="Request headers.")
    body: Any = Field(None, description="A table or array is sent as JSON, text as it is.")
    auth: Auth | None = Field(None, description="Credentials: bearer, basic or api_key.")
    expected_statuses: tuple[Annotated[int, Field(ge=100, le=599)], ...] = Field(
        (), description="Statuses that count as success; absent: any 2xx."
    )
    retry_count: int = Field(
        0, ge=0, le=100, description="Further tries inside one attempt of the step."
    )
    retry_delay_seconds: float = Field(
        5, ge=0, le=LONGEST_WAIT, description="Wait between them, unless Retry-After says more."
    )
    max_bytes: int = Field(
        10_000_000, ge=1, description="The largest decoded body accepted, in bytes."
    )
    follow_redirects: bool = Field(
        default=False, description="Follow up to 5 redirects, each checked anew."
    )

    @field_validator("url")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if any(ord(character) < 32 or ord(character) == 127 for character in value):  # noqa: PLR2004  the control characters of ASCII
            raise ValueError("the URL holds a line break or control character")
        return value.strip()

    def interrupt_default(self) -> Interrupt:
        """Requests that mean the same when sent twice may be (RFC 9110 section 9.2.2)."""
        return "retry" if self.method in _REPEATABLE else "fail"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Send the request; StepError with the status, an excerpt and the output for a refusal."""
        settings = ctx.http(self.connector)
        request = self._request()
        if ctx.dry_run and self.method not in _SAFE:
            return self._rehearse(ctx, settings, request)
        for tries_left in range(self.retry_count, -1, -1):
            try:
                return await self._once(ctx, settings, request)
            except StepError as error:
                wait = self._wait(error)
                if wait is None or not tries_left:
                    raise
                said = f"{error.message}; trying again in {wait:g} s ({tries_left} more)"
                ctx.log.warning(said)
                await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, ctx: StepRunContext, settings: HttpSettings, request: Request
    ) -> StepResult:
        reply = await http_client.send(settings, request)
        output = output_of(reply)
        if not self._expects(reply.status):
            raise StepError(
                refusal(self.method, reply),
                retry_after=reply.retry_after,
                output=output,
                http_status=reply.status,
            )
        result = StepResult(output, summary(reply), None)
        said = f"{self.method} {reply.url} · {result.summary}"
        ctx.log.info(said, elapsed_ms=reply.elapsed_ms)
        return result

    def _request(self) -> Request:
        return Request(
            method=self.method,
            url=self.url,
            query=self.query,
            headers=self.headers,
            body=self.body,
            auth=self.auth,
            max_bytes=self.max_bytes,
            follow_redirects=self.follow_redirects,
        )

    def _expects(self, status: int) -> bool:
        return status in self.expected_statuses if self.expected_statuses else 200 <= status < 300  # noqa: PLR2004  any 2xx

    def _wait(self, error: StepError) -> float | None:
        """Seconds before a try inside the step, or None when another would not help."""
        status = error.http_status
        if not error.retryable:
            return None
        if status is not None and status < 500 and status not in _WORTH_RETRYING:  # noqa: PLR2004  4xx
            return None
        wait = max(self.retry_delay_seconds, error.retry_after or 0)
        return wait if wait <= LONGEST_WAIT else None

    def _rehearse(
        self, ctx: StepRunContext, settings: HttpSettings, request: Request
    ) -> StepResult:
        """A dry run sends nothing that could change something."""
        where = http_client.shown_address(settings, request)
        said = f"dry run: {self.method} {where} would be sent"
        ctx.log.info(said)
        return StepResult({"dry_run": True, "status": None, "body": None}, said, None)


def output_of(reply: Reply) -> dict[str, Any]:
    """What later steps and history get of an answer; a binary body as base64 beside it."""
    known = {name: reply.headers[name] for name in _SHOWN_HEADERS if name in reply.headers}
    out: dict[str, Any] = {
        "status": reply.status,
        "headers": known,
        "body": reply.body,
        "elapsed_ms": reply.elapsed_ms,
    }
    if isinstance(reply.body, bytes):
        out["body"] = None
        out["body_base64"] = base64.b64encode(reply.body).decode()
    return out


def summary(reply: Reply) -> str:
    """`status=200 · body=30 items`."""
    match reply.body:
        case None:
            return f"status={reply.status}"
        case list():
            size = f"{len(reply.body)} {'item' if len(reply.body) == 1 else 'items'}"
        case dict():
            size = f"{len(reply.body)} {'field' if len(reply.body) == 1 else 'fields'}"
        case str():
            size = f"{len(reply.body)} characters"
        case bytes():
            size = f"{len(reply.body)} bytes"
        case _:
            size = str(reply.body)[:40]
    return f"status={reply.status} · body={size}"


def refusal(method: str, reply: Reply) -> str:
    """The sentence for a status that was not wanted: status, and the beginning of the body."""
    said = f"{method} {reply.url} answered {reply.status} {reply.reason}".rstrip()
    if 300 <= reply.status < 400 and "location" in reply.headers:  # noqa: PLR2004  any 3xx
        return f"{said}, a redirect; set follow_redirects = true, or write its target as the url"
    if reply.body in (None, ""):
        return said
    text = reply.body if isinstance(reply.body, str) else repr(reply.body)
    return f"{said}: {' '.join(text.split())[:EXCERPT]}"
