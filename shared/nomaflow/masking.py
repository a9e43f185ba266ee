"""Takes secrets out of everything that is kept or shown: by value, in every form they travel in.

Also makes text storable: PostgreSQL refuses NUL, UTF-8 refuses lone surrogates, JSON refuses NaN.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK = "***"
SHORTEST = 8
DEEPEST = 200

# A part of a URL that long is a key in itself, as the last part of a webhook's address is.
_LONG_PATH_PART = 16
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:\"'<>]*):([^\s/?#\"'<>]*)@")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile(r"[\r\n]+")


class Masker:
    """Replaces secrets by `***` in text and in JSON values.

    `secrets` are values, not names; those in `public` are left alone. `too_short` are the secrets
    under 8 characters: masking them would hit ordinary words, so they are not masked (SEC-S06).
    """

    __slots__ = ("_forms", "_raw", "too_short")

    def __init__(self, secrets: Iterable[str], public: Iterable[str] = ()) -> None:
        kept = {value for value in secrets if value} - set(public)
        self.too_short = tuple(sorted(value for value in kept if len(value) < SHORTEST))
        self._raw = frozenset(value for value in kept if len(value) >= SHORTEST)
        forms: set[str] = set()
        for value in kept:
            for part in _parts(value):
                if len(part) >= SHORTEST and part not in public:
                    forms.update(form for form in _forms(part) if len(form) >= SHORTEST)
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __repr__(self) -> str:
        return f"<Masker of {len(self._raw)} secrets>"

    def text(self, text: str) -> str:
        """Return `text` without secrets, NUL and lone surrogates."""
        text = storable(text)
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        if self._forms and "\n" in text:
            text = self._mend(text)
        if "@" in text and "://" in text:
            text = _USERINFO.sub(rf"\1\2:{MASK}@", text)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets: keys, texts, and numbers that are a secret."""
        return self._value(value, 0)

    def _value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911  a line for each kind
        match value:
            case str():
                return self.text(value)
            case bool() | None:
                return value
            case int():
                return MASK if self._raw and str(value) in self._raw else value
            case float():
                return value if math.isfinite(value) else str(value)
            case Mapping() | list() | tuple() if depth >= DEEPEST:
                return f"[nested deeper than {DEEPEST} levels]"
            case Mapping():
                return {
                    self.text(str(key)): self._value(part, depth + 1) for key, part in value.items()
                }
            case list() | tuple():
                return [self._value(part, depth + 1) for part in value]
            case _:
                return self.text(str(value))

    def _mend(self, text: str) -> str:
        """Mask secrets that a line break cuts in two, as wrapped base64 is."""
        breaks = [(match.start(), match.end()) for match in _BREAKS.finditer(text)]
        joined = _BREAKS.sub("", text)
        spans: list[tuple[int, int]] = []
        for form in self._forms:
            at = joined.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = joined.find(form, at + len(form))
        if not spans:
            return text

        def original(offset: int) -> int:
            for start, end in breaks:
                if start > offset:
                    break
                offset += end - start
            return offset

        for start, end in sorted(spans, reverse=True):
            text = text[: original(start)] + MASK + text[original(end - 1) + 1 :]
        return text


def storable(text: str) -> str:
    """Return `text` as PostgreSQL can store it."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    return text


def _parts(secret: str) -> Iterator[str]:
    """Yield the secret and, when it is an address, what inside it opens a door by itself."""
    yield secret
    if "://" not in secret:
        return
    try:
        url = urlsplit(secret)
        userinfo = url.netloc.rpartition("@")[0]
    except ValueError:
        return
    password = userinfo.partition(":")[2]
    yield password
    yield unquote(password)
    yield from (value for _, value in parse_qsl(url.query))
    yield from (part for part in url.path.split("/") if len(part) >= _LONG_PATH_PART)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), quote(secret, safe=""))
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield json.dumps(secret)[1:-1].replace("/", "\\/")
    yield repr(secret)[1:-1]
    yield html.escape(secret)
    yield secret.replace("'", "''")
    data = secret.encode("utf-8", "surrogatepass")
    yield data.hex()
    yield data.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _in_base64(data, encode)


def _in_base64(data: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """Yield what base64 shows of `data` wherever it stands, as in `user:secret` of Basic.

    A byte may fall on each of three places of a group; the letters that neighbours share are left
    out, so at most one letter of the secret's edge remains.
    """
    for before in range(3):
        letters = encode(b"\0" * before + data).decode().rstrip("=")
        first = (before * 8 + 5) // 6
        whole = (before + len(data)) * 8 // 6
        yield letters[first:whole]
