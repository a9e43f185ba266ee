"""Asks an API for one page after another: paced, patient when told to be, and never elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from nomaflow.connectors.http import address as http_address
from nomaflow.connectors.http import headers
from nomaflow.connectors.http.client import HttpClient, Reply, Request
from nomaflow.connectors.http.tries import LONGEST_WAIT, RefusedError, Tries
from nomaflow.errors import StepError
from nomaflow.steps.base import StepRunContext
from nomaflow.steps.http import HttpStep
from nomaflow.steps.syncing import links
from nomaflow.steps.syncing.answers import Reading
from nomaflow.steps.syncing.paging import Page, Paging, Place

MOST_HOLDS = 20
"""How often one page may be told to wait before it counts as refused."""

KEPT = ("method", "url", "query", "body")
"""What a request is made of besides the settings that a retry reads anew from its step."""

_NO_CONTENT = 204
_ASK_TO_WAIT = frozenset({429, 503})


class Pace:
    """When the next request may go out, for all that go to one API."""

    def __init__(self, delay_seconds: float) -> None:
        self._delay = delay_seconds
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for one's turn: in order, `delay_seconds` after the one before."""
        async with self._turn:
            while True:
                left = self._free_at - time.monotonic()
                if left <= 0:
                    break
                await asyncio.sleep(left)  # meanwhile `hold` may have put it off
            self._free_at = time.monotonic() + self._delay

    def hold(self, seconds: float) -> None:
        """Let nobody go for so long: the API has asked for it."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)


@dataclass(slots=True)
class Fetcher:
    """Fetches single pages; safe for several at once."""

    step: HttpStep
    client: HttpClient
    paging: Paging
    reading: Reading
    ctx: StepRunContext
    pace: Pace = field(init=False)
    tries: Tries = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.paging.settings.delay_seconds)
        self.tries = Tries(
            count=self.step.retry_count,
            delay_seconds=self.step.retry_delay_seconds,
            expected=self.step.expected_statuses,
            idempotent=self.step.interrupt_default() == "retry",
        )

    async def fetch(self, place: Place) -> Page:
        """The page at `place`; StepError when the API does not give it."""
        return await self._read(self.request(place), place)

    async def fetch_again(self, number: int, kept: Mapping[str, Any]) -> Page:
        """A page that an earlier run left out, by the request that `kept` made of it."""
        place = Place(number)
        again: dict[str, Any] = {name: kept.get(name) for name in KEPT}
        return await self._read(replace(self.request(place), **again), place)

    def kept(self, place: Place) -> dict[str, Any]:
        """The request of a page as it is kept: what may change meanwhile, and no credentials."""
        request = self.request(place)
        return {name: getattr(request, name) for name in KEPT}

    async def _read(self, request: Request, place: Place) -> Page:
        reply = await self._patient(request, place)
        follows = None
        if self.paging.settings.type == "link_header":
            follows = links.next_of(reply.headers.get("link"))
        body = reply.body
        if reply.status == _NO_CONTENT:
            return Page(place, [])
        if body is None or isinstance(body, str | bytes):
            raise StepError(
                f"page {place.number}: {_not_json(self.step.method, reply)}",
                retryable=False,
                http_status=reply.status,
            )
        return self.reading.page(place, body, follows)

    def request(self, place: Place) -> Request:
        """What asks for the page at `place`."""
        step = self.step
        request = Request(
            method=step.method,
            url=step.url,
            query=step.query,
            headers=step.headers,
            body=step.body,
            auth=step.auth,
            max_bytes=step.max_bytes,
            follow_redirects=step.follow_redirects,
        )
        link = self.paging.link(place)
        if link is None:
            return replace(request, query={**step.query, **self.paging.query(place)})
        return replace(request, url=self._linked(request, link, place), query={})

    def _linked(self, request: Request, link: str, place: Place) -> str:
        """The whole URL of a link; credentials go with it, so it must lead to the same host."""
        first = self.client.address(replace(request, query={}))
        try:
            url = first.join(link)
        except (httpx.InvalidURL, ValueError) as error:
            raise StepError(
                f"the link to page {place.number} cannot be read: {error}", retryable=False
            ) from None
        if http_address.origin(url) != http_address.origin(first):
            raise StepError(
                f"the link to page {place.number} leads to {headers.shown(url)}, another host than "
                f"{headers.shown(first)}; the request's credentials are only sent there",
                retryable=False,
            )
        return str(url.copy_with(fragment=None))

    async def _patient(self, request: Request, place: Place) -> Reply:
        """A wanted answer, after as many tries as the request allows and the API asks for."""
        tries_left, holds_left = self.tries.count, MOST_HOLDS
        while True:
            await self.pace.wait()
            try:
                return await self._once(request)
            except StepError as error:
                wait = self._wait(request, error)
                asked = error.http_status in _ASK_TO_WAIT and error.retry_after is not None
                if wait is not None and asked and holds_left:
                    holds_left -= 1
                    self.pace.hold(wait)
                elif wait is not None and tries_left:
                    tries_left -= 1
                else:
                    raise _told(place, error) from None
                said = f"page {place.number}: {error.message}; trying again in {wait:g} s"
                self.ctx.log.warning(said)
                await asyncio.sleep(wait)

    async def _once(self, request: Request) -> Reply:
        reply = await self.client.send(request)
        if not self.tries.expects(reply.status):
            raise RefusedError(request.method, reply)
        return reply

    def _wait(self, request: Request, error: StepError) -> float | None:
        """Seconds before another try; None when it would not help, or come too late."""
        wait = self.tries.wait(request.method, error)
        if wait is not None and error.retry_after is not None:
            wait = error.retry_after
        too_long = wait is not None and (wait > LONGEST_WAIT or wait >= self.ctx.seconds_left)
        return None if too_long else wait


def _told(place: Place, error: StepError) -> StepError:
    return error.reworded(f"page {place.number}: {error.message}")


def _not_json(method: str, reply: Reply) -> str:
    kind = reply.headers.get("content-type", "no content type").partition(";")[0]
    said = f"{method} {reply.url} answered {kind}, which is not JSON"
    if isinstance(reply.body, str) and reply.body.strip():
        return f"{said}: {' '.join(reply.body.split())[:200]}"
    return f"{said}: the body is empty" if not reply.body else said
