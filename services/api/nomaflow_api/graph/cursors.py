"""Opaque positions and pages: what `first`, `after`, `last` and `before` mean, checked once."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from pydantic_core import from_json, to_json

from nomaflow.store.keyset import Window
from nomaflow_api.doors.failures import bad_input

if TYPE_CHECKING:
    from nomaflow.store.keyset import Page

T = TypeVar("T")
LARGEST_PAGE = 100
LARGEST_LOG_PAGE = 1_000
_LONGEST = 512
_SEQ = "seq"
MOST = 2**63 - 1


def encode(kind: str, *parts: str | int) -> str:
    """Write a position as opaque text."""
    return base64.urlsafe_b64encode(to_json([kind, *parts])).decode().rstrip("=")


def decode(kind: str, text: str) -> list[Any]:
    """Read a position of that kind back; BAD_USER_INPUT when it is not one."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        found = from_json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(found, list) or not found or found[0] != kind:
            raise ValueError
    except (ValueError, binascii.Error):
        raise bad_cursor() from None
    return found[1:]


def bad_cursor() -> Exception:
    """Make the error of a cursor that is not one of this list's."""
    return bad_input("This cursor does not belong to this list; take one from its own pageInfo.")


def of_seq(seq: int) -> str:
    """Write the position in a run's feed."""
    return encode(_SEQ, seq)


def seq_of(text: str | None) -> int | None:
    """Read the position in a run's feed back."""
    if not text:
        return None
    match decode(_SEQ, text):
        case [int(seq)] if 0 <= seq <= MOST:
            return seq
    raise bad_cursor()


def of_time(kind: str, at: datetime, row_id: UUID) -> str:
    """Write the position in a list sorted by a time and an id."""
    return encode(kind, at.astimezone(UTC).isoformat(), str(row_id))


def time_of(kind: str, text: str) -> tuple[datetime, UUID]:
    """Read the position in a list sorted by a time and an id back."""
    match decode(kind, text):
        case [str(at), str(row_id)]:
            try:
                moment = datetime.fromisoformat(at)
                if moment.tzinfo is None:
                    raise ValueError
                return moment, UUID(row_id)
            except ValueError:
                pass
    raise bad_cursor()


def window(
    *,
    first: int | None,
    after: str | None,
    last: int | None = None,
    before: str | None = None,
    read: Callable[[str], tuple[Any, ...]],
    largest: int = LARGEST_PAGE,
) -> Window:
    """Turn a connection's arguments into a window; BAD_USER_INPUT when they make no sense.

    `last` counts from the end and wins over `first`, which has a default.
    """
    backwards = last is not None
    name, size = ("last", last) if backwards else ("first", first)
    if size is None:
        raise bad_input("Give `first` or `last`: how many are wanted.")
    if not 1 <= size <= largest:
        raise bad_input(f"`{name}` must be between 1 and {largest}, not {size}.")
    return Window(
        size,
        after=read(after) if after else None,
        before=read(before) if before else None,
        backwards=backwards,
    )


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What `pageInfo` shows."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True, slots=True)
class Edge(Generic[T]):
    """One object of a page and its position."""

    cursor: str
    node: T


@dataclass(frozen=True, slots=True)
class Connection(Generic[T]):
    """A page as GraphQL shows it, with a way to count the whole list if someone asks."""

    nodes: list[T]
    page: Page[T]
    window: Window
    cursor: Callable[[T], str]
    count: Callable[[], Any]

    @property
    def edges(self) -> list[Edge[T]]:
        """The objects with their positions."""
        return [Edge(self.cursor(node), node) for node in self.nodes]

    @property
    def page_info(self) -> PageFacts:
        """Where the page lies in the list."""
        return page_facts(self.page, self.window, self.cursor)


def page_facts(page: Page[T], asked: Window, cursor: Callable[[T], str]) -> PageFacts:
    """Say where a page lies in its list."""
    rows = page.rows
    ahead = page.more if not asked.backwards else asked.before is not None
    behind = page.more if asked.backwards else asked.after is not None
    return PageFacts(
        has_next_page=ahead,
        has_previous_page=behind,
        start_cursor=cursor(rows[0]) if rows else None,
        end_cursor=cursor(rows[-1]) if rows else None,
    )
