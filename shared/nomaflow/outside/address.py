"""Where the API answers and which token opens it: as told, or as a running `nomaflow up` tells."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nomaflow.errors import Code, NomaflowError

DEFAULT_URL = "http://127.0.0.1:8080"
ROOT_HOME = Path("/var/lib/nomaflow")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Address:
    """A place to talk to; `token_source` says in words where the token was found."""

    url: str
    token: str | None = field(repr=False)
    token_source: str

    @property
    def graphql(self) -> str:
        return f"{self.url}/graphql"

    @property
    def socket(self) -> str:
        """The same place for subscriptions: ws:// for http://, wss:// for https://."""
        return f"ws{self.graphql.removeprefix('http')}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.url)


def find(
    url: str | None = None,
    *,
    home: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Address:
    """Find the API: what is given, then NOMAFLOW_URL, then a running `up`, then port 8080 here.

    The token is NOMAFLOW_TOKEN; for a loopback URL alone, else the one that `up` keeps in its
    home: no other machine is ever sent a token it was not meant to have.
    """
    homes = list(_homes(home, environment))
    chosen = url or environment.get("NOMAFLOW_URL") or _running_url(homes) or DEFAULT_URL
    checked = _checked(chosen.rstrip("/"))
    if token := environment.get("NOMAFLOW_TOKEN", "").strip():
        return Address(checked, token, "NOMAFLOW_TOKEN")
    if is_loopback(checked):
        for place in homes:
            if kept := _kept_token(place):
                return Address(checked, kept, f"the home {place}")
    return Address(checked, None, "nowhere")


def is_loopback(url: str) -> bool:
    return (urlsplit(url).hostname or "") in LOOPBACK


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NomaflowError(
            Code.INVALID,
            f"`{url}` is not the URL of an API: it begins with http:// or https:// and names a "
            "host, like http://127.0.0.1:8080 (from --url or NOMAFLOW_URL).",
        )
    if parts.username or parts.password:
        raise NomaflowError(
            Code.INVALID, "The API's URL must not hold a user or password: set NOMAFLOW_TOKEN."
        )
    return url


def _homes(given: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    if named := environment.get("NOMAFLOW_HOME"):
        yield Path(named)
        return
    if project := environment.get("NOMAFLOW_PROJECT"):
        yield Path(project) / ".nomaflow"
    yield Path.cwd() / ".nomaflow"
    if os.geteuid() == 0:
        yield ROOT_HOME


def _running_url(homes: list[Path]) -> str | None:
    return next((url for home in homes if (url := _state(home).get("url"))), None)


def _kept_token(home: Path) -> str | None:
    if token := _state(home).get("admin_token"):
        return token
    try:
        return (home / "admin-token").read_text().strip() or None
    except OSError:
        return None


def _state(home: Path) -> dict[str, str]:
    """Read what a running `up` tells of itself; empty where none runs or it is another user's."""
    try:
        kept = json.loads((home / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: text for name, text in kept.items() if isinstance(text, str)}
