"""One hop of a request, and the next when a redirect is followed: what goes to which host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx

from nomaflow.connectors.http import address as http_address
from nomaflow.connectors.http import decoding, headers
from nomaflow.errors import StepError

_CROSSES_HOSTS = frozenset({"accept", "accept-language", "user-agent"})
_KEEPS_METHOD = frozenset({307, 308})


@dataclass(frozen=True, slots=True)
class Hop:
    """Method, address and body of one hop; `own` while it goes where the request was meant to."""

    method: str
    url: httpx.URL
    content: bytes | None
    kind: str | None
    """The content type that goes with the body when no header says another."""
    own: bool = True
    is_bare: bool = False
    """A redirect has turned it into a GET without the body it began with."""

    def draft(self, *layers: Mapping[str, str]) -> httpx.Request:
        """The request without credentials, a later layer of headers over an earlier one."""
        fields = httpx.Headers({"User-Agent": "nomaflow", "Accept": "*/*"}, encoding="utf-8")
        if self.kind is not None:
            fields["Content-Type"] = self.kind
        for layer in layers:
            try:
                headers.checked(layer)
            except ValueError as error:
                raise StepError(str(error), retryable=False) from None
            for name, value in layer.items():
                if self._takes(name):
                    fields[name] = value.strip(" \t")
        fields["Accept-Encoding"] = decoding.ACCEPTED
        url = self.url.copy_with(userinfo=b"") if self.url.userinfo else self.url
        made = httpx.Request(self.method, url, headers=fields.raw, content=self.content)
        made.headers.encoding = "utf-8"
        return made

    def _takes(self, name: str) -> bool:
        """Another host gets what any browser would send; without a body no type of one is sent."""
        lower = name.lower()
        if lower == "content-type":
            return not self.is_bare and (self.own or self.content is not None)
        return self.own or lower in _CROSSES_HOSTS

    def onward(self, response: httpx.Response) -> Hop:
        """Where a redirect leads (RFC 9110 section 15.4); a body never goes to another host."""
        try:
            target = self.url.copy_with(userinfo=b"").join(response.headers["location"])
            target = target.copy_with(userinfo=b"", fragment=None)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            words = f"redirected to an address that cannot be read: {headers.without_quotes(error)}"
            raise StepError(words, retryable=False) from None
        own = self.own and http_address.origin(target) == http_address.origin(self.url)
        keeps = response.status_code in _KEEPS_METHOD or self.method in {"GET", "HEAD"}
        if not keeps:
            return Hop("GET", target, None, None, own=own, is_bare=True)
        if self.content and not own:
            raise StepError(
                f"redirected to {headers.shown(target)}, another host; the body is not sent there",
                retryable=False,
            )
        return replace(self, url=target, own=own)
