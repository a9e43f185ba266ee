"""Reads a list of the API to its end, page by page."""

from __future__ import annotations

from typing import Any

from nomaflow.outside.api_client import Client

JSON = dict[str, Any]
LONGEST_PAGE = 100


async def read(
    client: Client,
    document: str,
    field: str,
    variables: JSON,
    limit: int | None = None,
    longest: int = LONGEST_PAGE,
) -> list[JSON]:
    """Read a connection page by page, up to `limit` nodes, `longest` of them at a time."""
    found: list[JSON] = []
    after = None
    while limit is None or len(found) < limit:
        size = longest if limit is None else min(longest, limit - len(found))
        asked = variables | {"after": after} | ({"first": size} if "$first" in document else {})
        page = (await client.query(document, asked))[field]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    return found


async def read_last(
    client: Client, document: str, field: str, variables: JSON, limit: int
) -> tuple[list[JSON], bool]:
    """Read the last `limit` nodes of a connection in its order; whether there are earlier ones."""
    found: list[JSON] = []
    before, more = None, True
    while more and len(found) < limit:
        asked = {"last": min(LONGEST_PAGE, limit - len(found)), "before": before}
        page = (await client.query(document, variables | asked))[field]
        found = page["nodes"] + found
        more, before = page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["startCursor"]
    return found, more
