"""Which settings of a connector are secrets: what is never shown, and never stored in plain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]

NAMES = frozenset(
    {"password", "bind_password", "token", "client_secret", "secret_key", "session_token"}
    | {"key", "access_key"}
)
_HARMLESS_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
_SECRET_HEADERS = re.compile(r"auth|cookie|token|key|secret|password|credential", re.IGNORECASE)
_USERINFO = re.compile(r"(://[^\s/@:]*:)[^\s/@$]+@")
_PLAIN_USERINFO = re.compile(r"://[^/?#@]*:(?P<password>[^/?#@]+)@")
_WHOLE = re.compile(r"\$\{[^{}]+\}")


def hidden(value: Any, *, secret: bool = False) -> Any:
    """Keep references to secrets, take out secrets that were written in plain."""
    match value:
        case Mapping():
            return {
                name: hidden(
                    part,
                    secret=(secret or name in NAMES or name == "headers")
                    and name.lower() not in _HARMLESS_HEADERS,
                )
                for name, part in value.items()
            }
        case str() if secret and "${" not in value:
            return None
        case str():
            return _USERINFO.sub(r"\1***@", value)
        case _:
            return value


def in_plain(table: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the places where a secret stands in plain, each with the reference to write instead."""
    for name, part in table.items():
        place = (*path, name)
        if isinstance(part, Mapping):
            yield from in_plain(part, place)
        elif not isinstance(part, str):
            continue
        elif name in NAMES or (path[-1:] == ("headers",) and _SECRET_HEADERS.search(name)):
            if part and not _WHOLE.search(part):
                word = re.sub(r"[^A-Za-z0-9_]", "_", name).lower()
                yield place, f"`{name}` is a secret: write ${{secret:{word}}} and give it apart"
        else:
            # A reference holds a colon of its own.
            found = _PLAIN_USERINFO.search(_WHOLE.sub("$", part))
            if found is not None and "$" not in found.group("password"):
                words = (
                    f"`{name}` holds a password: write ${{secret:password}} in its place and give "
                    "it apart, or give the connector by parts"
                )
                yield place, words
