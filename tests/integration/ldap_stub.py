"""A server that speaks as much LDAP as a test tells it to: what no slapd does, or should do."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from ldap3.protocol.rfc4511 import LDAPMessage
from pyasn1.codec.ber import decoder

PAGED = b"1.2.840.113556.1.4.319"


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element of BER."""
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 128 + len(length)]) + length + content


def integer(value: int, tag: int = 0x02) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1))


def string(value: str | bytes) -> bytes:
    return tlv(0x04, value.encode() if isinstance(value, str) else value)


def entry(dn: str, **attributes: list) -> bytes:
    """A SearchResultEntry."""
    return entry_of(dn, attributes)


def entry_of(dn: str, attributes: dict[str, list]) -> bytes:
    listed = [
        tlv(0x30, string(name), tlv(0x31, *(string(value) for value in values)))
        for name, values in attributes.items()
    ]
    return tlv(0x64, string(dn), tlv(0x30, *listed))


def reference(url: str) -> bytes:
    return tlv(0x73, string(url))


def done(code: int = 0, *, said: str = "", referrals: tuple[str, ...] = (), tag: int = 0x65):
    more = [tlv(0xA3, *(string(url) for url in referrals))] if referrals else []
    return tlv(tag, integer(code, 0x0A), string(""), string(said), *more)


def cookie(value: bytes) -> bytes:
    """The controls of a page that is followed by another."""
    control = tlv(0x30, string(PAGED), string(tlv(0x30, integer(0), string(value))))
    return tlv(0xA0, control)


@dataclass
class Search:
    """What a client asked."""

    base: str
    attributes: tuple[str, ...]
    cookie: bytes


@dataclass
class Stub:
    """`search` answers a list of operations, each with its controls, or raw bytes, or nothing."""

    search: object = None
    bind_code: int = 0
    silent: bool = False
    greeting: bytes = b""
    port: int = 0
    binds: list[bytes] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    tasks: list = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    async def serve(self, reader, writer) -> None:
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            if self.greeting:
                writer.write(self.greeting)
            while True:
                raw = await message(reader)
                self.asked.set()
                if self.silent:
                    continue
                if not await self.answer(raw, writer):
                    break
        self.gone.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def answer(self, raw: bytes, writer) -> bool:
        asked, _ = decoder.decode(raw, asn1Spec=LDAPMessage())
        number, operation = int(asked["messageID"]), asked["protocolOp"]
        body = operation.getComponent()
        match operation.getName():
            case "bindRequest":
                self.binds.append(bytes(body["authentication"]["simple"]))
                writer.write(said(number, done(self.bind_code, tag=0x61)))
            case "searchRequest":
                search = Search(
                    str(body["baseObject"]),
                    tuple(str(name) for name in body["attributes"]),
                    _cookie(asked),
                )
                self.searches.append(search)
                answers = self.search(search)
                for one in answers:
                    if one is None:
                        return False
                    if isinstance(one, int):  # seconds of silence
                        await asyncio.sleep(one)
                    elif isinstance(one, tuple):
                        writer.write(said(number, *one))
                    else:
                        writer.write(one.replace(b"@id@", bytes([number])))
                    await writer.drain()
            case "unbindRequest":
                return False
        return True


def said(number: int, operation: bytes, controls: bytes = b"") -> bytes:
    return tlv(0x30, integer(number), operation, controls)


def _cookie(asked) -> bytes:
    for control in asked["controls"] if asked["controls"].hasValue() else []:
        if bytes(control["controlType"]) == PAGED:
            value, _ = decoder.decode(bytes(control["controlValue"]))
            return bytes(value[1])
    return b""


async def message(reader) -> bytes:
    """One whole message."""
    head = await reader.readexactly(2)
    if head[1] & 0x80:
        more = await reader.readexactly(head[1] & 0x7F)
        return head + more + await reader.readexactly(int.from_bytes(more))
    return head + await reader.readexactly(head[1])


@contextlib.asynccontextmanager
async def serving(**settings):
    """A stub on a port of its own until the block ends."""
    stub = Stub(**settings)
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()
        for task in stub.tasks:
            task.cancel()
        await asyncio.gather(*stub.tasks, return_exceptions=True)
