"""An API with pages on the loopback: its items, its style, and how it misbehaves."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from loopback import Answer, Loopback, Received, as_json

TOKEN = "tok_0123456789abcdef"


def user(number: int, **other: Any) -> dict[str, Any]:
    """One user as the API of seed 003 gives them."""
    return {
        "id": f"u{number:04}",
        "email": f"User{number}@Example.COM",
        "first_name": f"First{number}",
        "last_name": f"Last{number}",
        "active": number % 3 != 0,
        "updated_at": f"2026-01-01T00:00:{number % 60:02}Z",
        **other,
    }


@dataclass
class PagedApi:
    """Gives `items` in pages; `total` is what it says there are, `before` may answer instead."""

    items: list[Any]
    total: int | None = None
    style: str = "page"
    most: int = 1000
    before: Callable[[dict[str, str]], Any] = lambda _query: None
    asked: list[dict[str, str]] = field(default_factory=list)
    now: int = 0
    at_once: int = 0
    server: Loopback = field(default_factory=Loopback)

    async def __aenter__(self) -> Self:
        self.server.answer = self._answer
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    @property
    def url(self) -> str:
        return f"{self.server.url}/users"

    @property
    def pages(self) -> list[str]:
        """The page, offset or cursor of each request, in the order they came."""
        return [q.get("page") or q.get("offset") or q.get("cursor") or "-" for q in self.asked]

    async def _answer(self, request: Received) -> Answer:
        query = {name: v[0] for name, v in parse_qs(urlsplit(request.target).query).items()}
        self.asked.append(query)
        self.now += 1
        self.at_once = max(self.at_once, self.now)
        try:
            other = self.before(query)
            if asyncio.iscoroutine(other):
                other = await other
            if other is not None:
                return other
            return self._page(query)
        finally:
            self.now -= 1

    def _page(self, query: dict[str, str]) -> Answer:
        size = min(int(query.get("limit", 100)), self.most)
        match self.style:
            case "page":
                start = (int(query.get("page", 1)) - 1) * size
            case "offset":
                start = int(query["offset"])
            case _:
                start = int(query.get("cursor", "0").removeprefix("c"))
        here = self.items[start : start + size]
        more = start + size < len(self.items)
        total = len(self.items) if self.total is None else self.total
        body: dict[str, Any] = {"data": here, "total": total, "more": more}
        follows = f"{self.url}?cursor=c{start + size}&limit={size}"
        if self.style == "cursor":
            body["next"] = f"c{start + size}" if more else None
        if self.style == "next_link":
            body["links"] = {"next": follows if more else None}
        fields = {"Connection": "keep-alive"}
        if self.style == "link_header" and more:
            fields["Link"] = f'<{self.url}?cursor=c0>; rel="first", <{follows}>; rel="next"'
        return as_json(body, **fields)
