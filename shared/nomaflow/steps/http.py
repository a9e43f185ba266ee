"""The `http` step: one request to an HTTP API."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from nomaflow.connectors.http import literal
from nomaflow.connectors.http import tries as http_tries
from nomaflow.connectors.http.auth import Auth, Headers
from nomaflow.connectors.http.client import IDEMPOTENT, HttpClient, Reply, Request
from nomaflow.connectors.http.tries import LONGEST_WAIT, RefusedError, Tries
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
KEY = "Idempotency-Key"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_HEADERS = 100
_LONGEST_HEADER = 4_000
_SECRET_HEADER = re.compile(
    r"cookie|authentication|authoriz|token|secret|signature|password|credential|api-?key|session"
)
SECRETS = tuple(
    ("auth", name)
    for name in ("token", "password", "key", "client_secret", "secret_key", "session_token")
)
_NO_SECRET = re.compile(r"next|page|continu|cursor")
"""A token that says where the next page begins is no secret, and later steps need it."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class HttpStep(Step):
    """Send one HTTP request; the decoded answer goes to later steps whole."""

    type_name: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP request"
    dry_runs: ClassVar[bool] = True
    tuning: ClassVar[frozenset[str]] = frozenset(
        {"retry_count", "retry_delay_seconds", "max_bytes"}
    )
    secret: ClassVar[tuple[tuple[str, ...], ...]] = SECRETS

    connector: str | None = Field(
        None, description="An HTTP connector; its URL is the base of a relative `url`."
    )
    url: str = Field(
        description="Where to send the request; under a connector, relative to its URL."
    )
    method: Annotated[Method, BeforeValidator(_upper)] = Field(
        "GET", description="GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS, in any case."
    )
    query: dict[str, Any] = Field(
        default_factory=dict, description="Query parameters, encoded; a list repeats its name."
    )
    headers: Headers = Field(default_factory=dict, description="Request headers.")
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
        5, ge=0, le=LONGEST_WAIT, description="Wait between them, unless Retry-After says more."
    )
    idempotent: bool = Field(
        default=False,
        description="A POST or PATCH may be repeated: the server knows it by its Idempotency-Key.",
    )
    max_bytes: int = Field(
        10_000_000, ge=1, description="The largest decoded body accepted, in bytes."
    )
    follow_redirects: bool = Field(
        default=False, description="Follow up to 5 redirects, each checked anew."
    )

    @field_validator("url")
    @classmethod
    def _one_line(cls, value: str, info: ValidationInfo) -> str:
        if not value.strip() and not info.data.get("connector"):
            raise ValueError("the URL is empty; only under a connector may it be")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):  # noqa: PLR2004  the control characters of ASCII
            raise ValueError("the URL holds a line break or control character")
        under = bool(info.data.get("connector"))
        if why := literal.wrong(value.strip(), relative=under):
            raise ValueError(why)
        return value.strip()

    def interrupt_default(self) -> Interrupt:
        """Requests that mean the same when sent twice may be (RFC 9110 section 9.2.2)."""
        return "retry" if self._repeatable else "fail"

    @property
    def _repeatable(self) -> bool:
        own_key = any(name.lower() == KEY.lower() for name in self.headers)
        return self.method in IDEMPOTENT or self.idempotent or own_key

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Send the request; StepError with the status, an excerpt and the output for a refusal."""
        client = ctx.http(self.connector)
        request = self._request(ctx)
        if ctx.dry_run and self.method not in _SAFE:
            return self._rehearse(ctx, client, request)
        tries = Tries(
            count=self.retry_count,
            delay_seconds=self.retry_delay_seconds,
            expected=self.expected_statuses,
            idempotent=self._repeatable,
        )
        try:
            reply = await http_tries.send(
                client,
                request,
                tries,
                say=ctx.log.warning,
                seconds_left=lambda: ctx.seconds_left,
            )
        except RefusedError as error:
            error.output = output_of(error.reply)
            raise
        if reply.broken is not None:
            ctx.log.warning(
                f"the answer says it is JSON and is none ({reply.broken}); its body is handed on "
                "as text"
            )
        result = StepResult(output_of(reply), summary(reply), None)
        said = f"{self.method} {reply.url} · {result.summary}"
        ctx.log.info(said, elapsed_ms=reply.elapsed_ms)
        return result

    def _request(self, ctx: StepRunContext) -> Request:
        request = Request(
            method=self.method,
            url=self.url,
            query=self.query,
            headers=self.headers,
            body=self.body,
            auth=self.auth,
            max_bytes=self.max_bytes,
            follow_redirects=self.follow_redirects,
        )
        own = any(name.lower() == KEY.lower() for name in self.headers)
        if self.method in IDEMPOTENT or own:
            return request
        return replace(request, headers={KEY: f"{ctx.run_id}:{ctx.step}", **self.headers})

    def _rehearse(self, ctx: StepRunContext, client: HttpClient, request: Request) -> StepResult:
        """A dry run sends nothing that could change something."""
        where = client.shown_address(request)
        would = f"{self.method} {where} would be sent"
        said = f"dry run: {would}"
        ctx.log.info(said)
        output = {"dry_run": True, "executed": False, "would": would, "status": None, "body": None}
        return StepResult(output, said)


def output_of(reply: Reply) -> dict[str, Any]:
    """What later steps and history get of an answer; a binary body as base64 beside it."""
    out: dict[str, Any] = {
        "status": reply.status,
        "headers": _shown_headers(reply),
        "body": reply.body,
        "elapsed_ms": reply.elapsed_ms,
    }
    if isinstance(reply.body, bytes):
        out["body"] = None
        out["body_base64"] = base64.b64encode(reply.body).decode()
    return out


def _shown_headers(reply: Reply) -> dict[str, str]:
    """The answer's headers in lower case, but for the values of those that carry secrets."""
    return {
        name: "***" if _is_secret(name) else value[:_LONGEST_HEADER]
        for name, value in list(reply.headers.items())[:_MOST_HEADERS]
    }


def _is_secret(name: str) -> bool:
    return bool(_SECRET_HEADER.search(name)) and not _NO_SECRET.search(name)


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
