"""Attributes that come in parts: Active Directory gives 1 500 values at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from nomaflow.connectors.ldap import ber as ldap_ber
from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.ldap.ber import Cell, Entry, Wanted
from nomaflow.connectors.ldap.connector import LdapSession, LdapSettings, Search
from nomaflow.errors import StepError

LONGEST = 64 * 1024 * 1024
"""Bytes of one attribute's values, all parts together."""
_RANGE = re.compile(rb"(?i);range=(\d+)-(\d+|\*)$")


class Ranges:
    """Fetches the rest of such attributes (MS-ADTS 3.1.1.3.1.3.3).

    Over a connection of its own: that of the search is in the middle of its pages.
    """

    def __init__(self, settings: LdapSettings, attributes: Sequence[str]) -> None:
        self._settings, self._attributes = settings, attributes
        self._session: LdapSession | None = None

    async def completed(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with every value of every attribute."""
        return [await self._whole(entry) if entry.ranges else entry for entry in entries]

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _whole(self, entry: Entry) -> Entry:
        cells = list(entry.cells)
        for place, description in entry.ranges:
            values = _values(cells[place])
            await self._rest(entry, place, description, values)
            cells[place] = values[0] if len(values) == 1 else values or None
        return replace(entry, cells=cells, ranges=())

    async def _rest(self, entry: Entry, place: int, came: bytes, values: list[bytes]) -> None:
        name = self._attributes[place]
        size = sum(map(len, values))
        while True:
            next_value = _after(came)
            if next_value != len(values):
                # A value that came or went meanwhile would be missed or doubled.
                raise StepError(
                    f"the directory gave {len(values)} values of {name} of {_shown(entry)} and "
                    f"calls them {came.decode('ascii', 'replace')}; nothing was changed"
                )
            part = await self._part(entry, name, next_value)
            if part is None:
                raise StepError(f"{_shown(entry)} vanished while the values of {name} were read")
            more = _values(part.cells[0])
            values += more
            size += sum(map(len, more))
            if size > LONGEST:
                raise StepError(
                    f"{name} of {_shown(entry)} holds more than {LONGEST} bytes", retryable=False
                )
            if not part.ranges:
                return
            if not more:
                raise StepError(f"the directory gives no more of {name} of {_shown(entry)}")
            came = part.ranges[0][1]

    async def _part(self, entry: Entry, name: str, first: int) -> Entry | None:
        if self._session is None:
            self._session = await ldap.open(self._settings)
        attributes = (f"{name};range={first}-*",)
        search = Search(entry.dn.decode(), "(objectClass=*)", "base", attributes)
        found: Entry | None = None
        async with aclosing(self._session.search(search, Wanted({name: 0}))) as chunks:
            async for chunk in chunks:
                found = next(iter(chunk.entries), found)
        return found


def _after(description: bytes) -> int:
    found = _RANGE.search(description)
    if found is None or found[2] == b"*":
        return -1
    return int(found[2]) + 1


def _values(cell: Cell) -> list[bytes]:
    return [] if cell is None else [cell] if isinstance(cell, bytes) else list(cell)


def _shown(entry: Entry) -> str:
    return ldap_ber.words(entry.dn)
