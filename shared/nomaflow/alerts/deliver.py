"""Takes messages out of the outbox and posts them, trying again later what did not arrive.

Any number of senders may work at once. A message that cannot be delivered never touches its run:
its own row keeps the tries and the last error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import structlog

from nomaflow import alert_spec
from nomaflow.alerts import body
from nomaflow.errors import NomaflowError
from nomaflow.language import template
from nomaflow.masking import Masker
from nomaflow.store import deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from nomaflow.alert_spec import Channels, ChannelSpec
    from nomaflow.store.database import Database
    from nomaflow.store.deliveries import DueDelivery

log = structlog.get_logger(__name__)

TRIES = 10
"""After so many failed tries a message is given up: about 36 minutes after the first one."""
FIRST_WAIT_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 900.0
ANSWER_SECONDS = 15.0
"""The whole time one post may take, connection and answer."""
HOLD_SECONDS = 60.0
"""How long a taken message is hidden from other senders; longer than any post takes."""
AT_ONCE = 20
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Sender:
    """What every delivery needs: the outbox, the channels as they are now, and a client."""

    db: Database
    channels: Callable[[], Channels]
    env: Callable[[], Mapping[str, str]]
    http: httpx.AsyncClient


def client() -> httpx.AsyncClient:
    """A client that follows no redirect: an alert's address is a secret of one host."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(10.0, connect=5.0),
        follow_redirects=False,
        headers={"User-Agent": "nomaflow"},
    )


def wait_seconds(tries: int, retry_after: float | None = None) -> float:
    """How long to wait after that many failed tries; a server may ask for more, up to the cap."""
    wait = min(FIRST_WAIT_SECONDS * 2.0 ** (tries - 1), LONGEST_WAIT_SECONDS)
    return min(max(wait, retry_after or 0.0), LONGEST_WAIT_SECONDS)


async def deliver_due(sender: Sender, *, at: datetime | None = None) -> int:
    """Send every message that is due (at `at`, else now); answers how many were tried."""
    tried = 0
    while True:
        due = await deliveries.claim(sender.db, limit=AT_ONCE, hold_seconds=HOLD_SECONDS, at=at)
        outcomes = await asyncio.gather(
            *(_deliver(sender, delivery, at) for delivery in due), return_exceptions=True
        )
        for outcome in outcomes:  # only after every post has ended: none is cut off by another
            if isinstance(outcome, BaseException):
                raise outcome
        tried += len(due)
        if len(due) < AT_ONCE:
            return tried


async def _deliver(sender: Sender, delivery: DueDelivery, at: datetime | None) -> None:
    facts = {"job": delivery.job_name, "channel": delivery.channel, "about": delivery.event}
    failure = await _attempt(sender, delivery)
    if failure is None:
        await deliveries.sent(sender.db, delivery, at=at)
        log.info("alert delivered", tries=delivery.attempts, **facts)
        return
    given_up = delivery.attempts >= TRIES
    wait = None if given_up else wait_seconds(delivery.attempts, failure.retry_after)
    await deliveries.not_sent(sender.db, delivery, str(failure), retry_in_seconds=wait, at=at)
    if given_up:
        log.error("alert given up", tries=delivery.attempts, reason=str(failure), **facts)
    elif delivery.attempts == 1:
        log.warning("alert not delivered", retry_seconds=wait, reason=str(failure), **facts)


async def _attempt(sender: Sender, delivery: DueDelivery) -> _NotDeliveredError | None:
    try:
        await _post(sender, delivery)
    except _NotDeliveredError as error:
        return error
    except Exception as error:
        log.exception("alert could not be written", delivery=str(delivery.id))
        return _NotDeliveredError(f"internal error ({type(error).__name__})")
    return None


class _NotDeliveredError(Exception):
    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


async def _post(sender: Sender, delivery: DueDelivery) -> None:
    channels = sender.channels()
    name = _route(delivery, channels)
    channel = channels.by_name[name]
    env = sender.env()
    try:
        scope = template.Scope(env=env)
        url = str(template.render(channel.url, scope))
        headers = template.render(channel.headers, scope)
    except NomaflowError as error:
        raise _NotDeliveredError(f"channel `{name}`: {error.message}") from None
    masker = Masker((*env.values(), url, *headers.values()))
    try:
        await _request(sender.http, channel, url, headers, delivery)
    except _NotDeliveredError as error:
        reason = masker.text(f"channel `{name}`: {error}")
        raise _NotDeliveredError(reason, error.retry_after) from None


def _route(delivery: DueDelivery, channels: Channels) -> str:
    """The channel for this message as alerts.toml is now, so that mending the file helps."""
    if delivery.channel in channels.by_name:
        return delivery.channel
    if delivery.channel != alert_spec.DEFAULT:
        wanted = delivery.channel
    elif delivery.recipient:
        wanted = delivery.recipient
    elif channels.default:
        return channels.default
    else:
        raise _NotDeliveredError(
            "no channel is the default one; give one of alerts.toml `default = true`"
        )
    reason = alert_spec.unreachable(wanted, channels)
    if reason or not channels.slack:
        raise _NotDeliveredError(reason or f"nothing reaches `{wanted}`")
    return channels.slack


async def _request(
    http: httpx.AsyncClient,
    channel: ChannelSpec,
    url: str,
    headers: Mapping[str, str],
    delivery: DueDelivery,
) -> None:
    content = body.of(channel, delivery.payload, delivery.recipient)
    sent = {
        "Content-Type": content.content_type,
        "Idempotency-Key": str(delivery.id),  # the same for every try of one message
        **headers,
    }
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            http.stream("POST", url, content=content.content, headers=sent) as answer,
        ):
            if answer.is_success:
                return
            text = await _beginning(answer)
    except TimeoutError:
        raise _NotDeliveredError(f"no answer within {ANSWER_SECONDS:g} s") from None
    except httpx.TimeoutException as error:
        raise _NotDeliveredError(f"no answer in time ({type(error).__name__})") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise _NotDeliveredError(f"no connection: {error or type(error).__name__}") from None
    phrase = f"{answer.status_code} {_phrase(answer.status_code)}".strip()
    raise _NotDeliveredError(
        f"the server answered {phrase}{': ' + text if text else ''}", _retry_after(answer)
    )


async def _beginning(answer: httpx.Response) -> str:
    """The first words of an answer, enough to say what the server did not like."""
    async for text in answer.aiter_text():
        return " ".join(text.split())[:SHOWN_CHARACTERS]
    return ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds the server asks for (RFC 9110 section 10.2.3); its date form is not needed here."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
