"""Tries of one request inside one attempt of a step: which failures are worth another, and when.

A failure is worth one when no answer came, or when the server says it is busy, gone for now or
broken. A request that may already have been acted on is only repeated when it means the same
twice: by its method (RFC 9110 section 9.2.2), or because the server knows it by its
Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

from nomaflow.connectors.http.client import IDEMPOTENT, HttpClient, NoAnswerError, Reply, Request
from nomaflow.errors import StepError

LONGEST_WAIT = 300.0
"""Seconds a try inside the step may wait; a longer Retry-After is left to the step's policy."""
EXCERPT = 500

_TRY_LATER = frozenset({408, 425, 429, 503})
"""The server says that it has not acted on the request (RFC 9110, RFC 6585, RFC 8470)."""
_BROKEN = frozenset({500, 502, 504, *range(520, 531)})


class RefusedError(StepError):
    """The server answered with a status that was not wanted; `reply` is its answer."""

    def __init__(self, method: str, reply: Reply) -> None:
        super().__init__(
            refusal(method, reply), retry_after=reply.retry_after, http_status=reply.status
        )
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a request is sent in all (`count` + 1), and what counts as success.

    `expected` are statuses; empty: any 2xx. `idempotent`: the same request twice does what one
    does, whatever its method.
    """

    count: int = 0
    delay_seconds: float = 5.0
    expected: tuple[int, ...] = ()
    idempotent: bool = False

    def expects(self, status: int) -> bool:
        """Whether an answer with this status is a success."""
        return status in self.expected if self.expected else 200 <= status < 300  # noqa: PLR2004  any 2xx

    def wait(self, method: str, error: StepError) -> float | None:
        """Seconds before another try, or None when it would not help or could do harm."""
        if not error.retryable:
            return None
        repeatable = self.idempotent or method in IDEMPOTENT
        match error:
            case RefusedError() if error.http_status in _TRY_LATER:
                pass
            case RefusedError() if error.http_status not in _BROKEN or not repeatable:
                return None
            case NoAnswerError() if error.maybe_received and not repeatable:
                return None
            case _:
                pass
        wait = max(self.delay_seconds, error.retry_after or 0)
        return wait if wait <= LONGEST_WAIT else None


async def send(
    client: HttpClient,
    request: Request,
    tries: Tries,
    *,
    say: Callable[[str], None],
    seconds_left: Callable[[], float],
) -> Reply:
    """An answer with a wanted status; `say` hears why each further try is made.

    RefusedError for another status, NoAnswerError for no answer, once no try is left or the next
    one would begin after the step's time is up.
    """
    for left in range(tries.count, -1, -1):
        try:
            reply = await client.send(request)
            if not tries.expects(reply.status):
                raise RefusedError(request.method, reply)
        except StepError as error:
            wait = tries.wait(request.method, error)
            if wait is None or not left or wait >= seconds_left():
                raise
            say(f"{error.message}; trying again in {wait:g} s ({left} more)")
            await asyncio.sleep(wait)
        else:
            return reply
    raise AssertionError("the last try returns or raises")


def refusal(method: str, reply: Reply) -> str:
    """The sentence for a status that was not wanted: status, and the beginning of the body."""
    said = f"{method} {reply.url} answered {reply.status} {reply.reason}".rstrip()
    if 300 <= reply.status < 400 and "location" in reply.headers:  # noqa: PLR2004  any 3xx
        return f"{said}, a redirect; set follow_redirects = true, or write its target as the url"
    if reply.body in (None, ""):
        return said
    text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body, ensure_ascii=False)
    return f"{said}: {' '.join(text[: 4 * EXCERPT].split())[:EXCERPT]}"
