"""What a directory's schema says of its attributes: which there are, and which hold bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from nomaflow.connectors.ldap.ber import Wanted
from nomaflow.connectors.ldap.connector import LdapSession, Search
from nomaflow.errors import StepError

_DESCRIPTION = re.compile(r"DESC\s+'(?:[^'\\]|\\.)*'")
_NAMES = re.compile(r"\bNAME\s+(?:'([^']+)'|\(([^)]*)\))")
_SUPERIOR = re.compile(r"\bSUP\s+'?([\w.;-]+)")
_SYNTAX = re.compile(r"\bSYNTAX\s+'?([\d.]+)")
_OID = re.compile(r"\(\s*([\d.]+|[\w-]+)")
# RFC 4517: audio, binary, certificates, fax, JPEG, octet strings; the last is also how Active
# Directory publishes GUIDs and SIDs.
_BINARY = frozenset(f"1.3.6.1.4.1.1466.115.121.1.{n}" for n in (4, 5, 8, 9, 10, 23, 28, 40, 49))
# Octet strings that hold text.
_TEXT = frozenset({"userpassword", "authpassword"})
_BINARY_NAMES = """
    objectguid objectsid sidhistory msexchmailboxguid msexcharchiveguid msexchmasteraccountsid
    ms-ds-consistencyguid msds-generationid schemaidguid securityidentifier tokengroups
    ntsecuritydescriptor logonhours jpegphoto thumbnailphoto thumbnaillogo audio photo
    usercertificate usersmimecertificate userpkcs12 cacertificate crosscertificatepair
    certificaterevocationlist authorityrevocationlist deltarevocationlist x500uniqueidentifier
"""
# Attributes that hold bytes in every directory, for one that shows no schema.
BINARY_NAMES = frozenset(_BINARY_NAMES.split())
_MOST_STEPS = 20


@dataclass(frozen=True, slots=True)
class Schema:
    """The attributes of a directory by their names in small letters."""

    superiors: Mapping[str, str] = field(default_factory=dict)
    syntaxes: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Every name and number, as the schema writes it."""

    def knows(self, attribute: str) -> bool:
        """Whether there is such an attribute; True for all when no schema could be read."""
        return not self.names or _plain(attribute) in self.names

    def is_binary(self, attribute: str) -> bool:
        """Whether its values are bytes and not text."""
        name = _plain(attribute)
        if name in BINARY_NAMES or attribute.lower().endswith(";binary"):
            return True
        if name in _TEXT:
            return False
        for _ in range(_MOST_STEPS):
            if name in self.syntaxes:
                return self.syntaxes[name] in _BINARY
            if name not in self.superiors:
                break
            name = self.superiors[name]
        return False


def parse(definitions: Iterable[str]) -> Schema:
    """Read attribute type descriptions (RFC 4512 section 4.1.2)."""
    superiors: dict[str, str] = {}
    syntaxes: dict[str, str] = {}
    names: dict[str, str] = {}
    for definition in definitions:
        text = _DESCRIPTION.sub("", definition)
        for name in _spelled(text):
            key = name.lower()
            names[key] = name
            if (syntax := _SYNTAX.search(text)) is not None:
                syntaxes[key] = syntax[1]
            if (superior := _SUPERIOR.search(text)) is not None:
                superiors[key] = superior[1].lower()
    return Schema(superiors, syntaxes, names)


async def read(session: LdapSession) -> Schema:
    """Ask for the schema; an empty one when the directory does not show it to this reader."""
    try:
        found = await _values(session, "", "subschemaSubentry", "(objectClass=*)")
        if not found:
            return Schema()
        where = found[0].decode("utf-8", "replace")
        definitions = await _values(session, where, "attributeTypes", "(objectClass=subschema)")
    except StepError as error:
        if error.category != "error":  # the connection is gone, for every search
            raise
        return Schema()
    return parse(definition.decode("utf-8", "replace") for definition in definitions)


async def contexts(session: LdapSession) -> list[str]:
    """The names at the top of what the directory holds (RFC 4512 section 5.1.2)."""
    found = await _values(session, "", "namingContexts", "(objectClass=*)")
    return [name.decode("utf-8", "replace") for name in found]


async def _values(session: LdapSession, base: str, attribute: str, wanted: str) -> list[bytes]:
    search = Search(base, wanted, "base", (attribute,))
    values: list[bytes] = []
    async with aclosing(session.search(search, Wanted({attribute: 0}))) as chunks:
        async for chunk in chunks:
            for entry in chunk.entries:
                cell = entry.cells[0]
                values += [cell] if isinstance(cell, bytes) else cell or []
    return values


def _spelled(definition: str) -> Iterator[str]:
    """The number and the names."""
    if (number := _OID.match(definition.strip())) is not None:
        yield number[1]
    if (found := _NAMES.search(definition)) is not None:
        all_names = [found[1]] if found[1] else re.findall(r"'([^']+)'", found[2])
        yield from all_names


def _plain(attribute: str) -> str:
    return attribute.partition(";")[0].lower()
