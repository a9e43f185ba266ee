"""Which form a client wants its answer in (RFC 9110 section 12.5.1, GraphQL over HTTP)."""

from __future__ import annotations

from enum import StrEnum


class Media(StrEnum):
    """The forms an answer can take."""

    JSON = "application/json"
    GRAPHQL = "application/graphql-response+json"
    EVENTS = "text/event-stream"


_BY_PREFERENCE = (Media.GRAPHQL, Media.JSON, Media.EVENTS)


def choose(accept: str | None) -> Media | None:
    """Return the form to answer in; None when the client takes none of ours.

    Without a header, or where anything will do, it is plain JSON, which every client reads.
    """
    if accept is None or not accept.strip():
        return Media.JSON
    wishes = [_wish(part) for part in accept.split(",")[:50]]
    best: tuple[float, int, Media] | None = None
    for place, media in enumerate(_BY_PREFERENCE):
        quality = _quality(media, wishes)
        if quality > 0 and (best is None or (quality, -place) > best[:2]):
            best = (quality, -place, media)
    return best[2] if best else None


def _wish(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, max(0.0, min(float(value), 1.0))
            except ValueError:
                return kind, 0.0
    return kind, 1.0


def _quality(media: Media, wishes: list[tuple[str, float]]) -> float:
    named = [quality for kind, quality in wishes if kind == media]
    if named:
        return max(named)
    if media is not Media.JSON:  # only plain JSON stands for "anything"
        return 0.0
    wide = [quality for kind, quality in wishes if kind in {"*/*", "application/*"}]
    return max(wide, default=0.0)
