"""A bound connection to a directory: ldap3 connects, encrypts, binds, asks; we read the answers.

ldap3's own reading reports partial results as success and takes five times as long, and its
defaults verify no certificate and follow referrals with our password: none of that is used.
All that blocks is done in one thread of the session's own, which `close` sets free.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import ldap3
from ldap3.core.exceptions import LDAPExceptionError
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc2696 import paged_search_control

from nomaflow.connectors.ldap import addresses as ldap_addresses
from nomaflow.connectors.ldap import ber as ldap_ber
from nomaflow.connectors.ldap import errors as ldap_errors
from nomaflow.connectors.ldap.answer import CHUNK_BYTES, CHUNK_ENTRIES, Answer
from nomaflow.connectors.ldap.ber import BerError, Entry, Frame, Wanted
from nomaflow.connectors.ldap.connector import Chunk, LdapSettings, Search
from nomaflow.connectors.ldap.tls import VerifiedTls
from nomaflow.errors import StepError

_RECEIVED = 256 * 1024
_STOP_SECONDS = 1.0
_CHUNK_SECONDS = 0.5  # a slow directory is seen to go on
_MOST_EMPTY_PAGES = 10_000
_SCOPES = {"base": ldap3.BASE, "one": ldap3.LEVEL, "subtree": ldap3.SUBTREE}

T = TypeVar("T")


async def open_session(settings: LdapSettings) -> Session:
    """Connect, encrypt, bind; see `connectors.ldap.open`."""
    session = Session(settings)
    limit = settings.connect_seconds + settings.receive_seconds
    try:
        async with asyncio.timeout(limit):
            addresses = await ldap_addresses.of(settings)
            await session.in_thread(partial(session.connect, addresses))
    except TimeoutError:
        await session.close()
        words = f"{settings.shown} did not let us in within {limit:g} s"
        raise StepError(words, category="timeout") from None
    except BaseException:
        await session.close()
        raise
    return session


class Session:
    """One connection. Its methods that are not `async` are for its own thread."""

    def __init__(self, settings: LdapSettings) -> None:
        self._settings = settings
        self._where = settings.shown
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ldap")
        self._connection: Any = None
        self._closed = False

    @property
    def described(self) -> str:
        """Where we are connected, as whom, and how safely."""
        settings = self._settings
        who = f"as {settings.bind_dn}" if settings.bind_dn else "anonymously"
        said = self._connection.socket if self._connection is not None else None
        how = said.version() if isinstance(said, ssl.SSLSocket) else "not encrypted"
        return f"{self._where} {who}, {how}"

    async def search(self, search: Search, wanted: Wanted) -> AsyncGenerator[Chunk, None]:
        """See `LdapSession.search`; the next entries are fetched while these are worked on."""
        chunks = self._chunks(search, wanted)
        ahead = asyncio.create_task(self.in_thread(partial(next, chunks, None)))
        try:
            while (chunk := await ahead) is not None:
                ahead = asyncio.create_task(self.in_thread(partial(next, chunks, None)))
                yield chunk
        finally:
            if not ahead.done():
                ahead.cancel()
                await asyncio.wait({ahead}, timeout=_STOP_SECONDS)
            elif not ahead.cancelled():
                ahead.exception()  # whoever stops early does not ask for it

    async def in_thread(self, deed: Callable[[], T]) -> T:
        """Do what blocks; a cancelled wait hangs up, so that the thread ends as well."""
        work = asyncio.get_running_loop().run_in_executor(self._thread, deed)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self.hang_up()
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait({work}, timeout=_STOP_SECONDS)
            raise

    async def close(self) -> None:
        """End the connection; an operation under way ends with it."""
        self.hang_up()
        self._thread.shutdown(wait=False, cancel_futures=True)
        connection, self._connection = self._connection, None
        if connection is not None and connection.socket is not None:
            with suppress(OSError):
                connection.socket.close()

    def hang_up(self) -> None:
        """Wake whoever waits for the server."""
        self._closed = True
        under = self._connection.socket if self._connection is not None else None
        if under is not None:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which pulls TLS from under the reader first.
                socket.socket.shutdown(under, socket.SHUT_RDWR)

    def connect(self, addresses: list[str]) -> None:
        """Try each address; the first that is reached decides."""
        last: StepError | None = None
        for address in addresses:
            if self._closed:
                break
            try:
                self._open(address)
            except StepError as error:
                last = error
                if not error.retryable:
                    raise
            else:
                self._bind()
                return
        raise last or StepError(f"{self._where} has no address", category="connection")

    def _open(self, address: str) -> None:
        settings = self._settings
        tls = VerifiedTls(settings)
        server = ldap3.Server(
            f"[{address}]" if ":" in address else address,
            port=settings.port,
            use_ssl=settings.encryption == "ldaps",
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=settings.connect_seconds,
            allowed_referral_hosts=[],
        )
        connection = self._connection = ldap3.Connection(
            server,
            user=settings.bind_dn,
            password=settings.bind_password,
            authentication=ldap3.SIMPLE if settings.bind_dn else ldap3.ANONYMOUS,
            auto_bind=ldap3.AUTO_BIND_NONE,
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            check_names=False,
            read_only=True,
            # ldap3 packs it as a whole number.
            receive_timeout=max(1, round(settings.receive_seconds)),
        )
        doing = "connecting"
        try:
            connection.open(read_server_info=False)
            if settings.encryption == "start_tls":
                doing = "starting TLS"
                connection.start_tls(read_server_info=False)
                if not isinstance(connection.socket, ssl.SSLSocket):
                    raise StepError(f"{self._where} did not start TLS", retryable=False)
        except StepError:
            raise
        except Exception as error:  # a strange server makes ldap3 raise anything
            raise self._failed(doing, tls.refused or error) from error

    def _bind(self) -> None:
        connection = self._connection
        try:
            connection.bind(read_server_info=False)
        except Exception as error:  # the same
            raise self._failed("binding", error) from error
        answer = connection.result or {}
        if answer.get("result") != ldap_errors.SUCCESS or not connection.bound:
            code, said = int(answer.get("result") or 0), str(answer.get("message") or "")
            raise ldap_errors.bind_refused(self._where, self._settings.bind_dn, code, said)

    def _failed(self, doing: str, error: BaseException) -> StepError:
        if self._closed:
            return StepError(f"the connection to {self._where} was closed", category="connection")
        if isinstance(error, OSError):
            return ldap_errors.of_network(self._where, doing, error)
        if isinstance(error, LDAPExceptionError):
            words = f"{self._where} failed while {doing}: {error}"
            return StepError(words, category="connection")
        return ldap_errors.not_ldap(self._where, type(error).__name__)

    def _chunks(self, search: Search, wanted: Wanted) -> Iterator[Chunk]:
        """The next page is asked for as soon as one has come, before it is read.

        Small pages are handed over together: each handing over costs the two threads a change
        of turns, which takes longer than reading a page.
        """
        answer = Answer(self, self._ask(search, b""))
        found: list[Entry] = []
        pages = references = count = empty = size = 0
        since = time.monotonic()
        while True:
            data, frames = answer.receive()
            done = frames.pop() if frames[-1].kind == ldap_ber.DONE else None
            entries = [f for f in frames if f.kind == ldap_ber.ENTRY]
            references += sum(f.kind == ldap_ber.REFERENCE for f in frames)
            count += len(entries)
            size += len(data)
            cookie = b""
            if done is not None:
                cookie = self._cookie(search, done, data, count)
                pages += 1
                empty = 0 if entries else empty + 1
                if empty > _MOST_EMPTY_PAGES:
                    raise ldap_errors.not_ldap(self._where, "pages without entries, and no end")
                if cookie:
                    answer = Answer(self, self._ask(search, cookie))
            found += self._read(data, entries, wanted)
            is_last = done is not None and not cookie
            waited = time.monotonic() - since > _CHUNK_SECONDS
            if is_last or waited or len(found) >= CHUNK_ENTRIES or size >= CHUNK_BYTES:
                yield Chunk(found, pages, references)
                found = []
                pages = references = size = 0
                since = time.monotonic()
            if is_last:
                return

    def _read(self, data: bytes, frames: list[Frame], wanted: Wanted) -> list[Entry]:
        try:
            return [ldap_ber.entry(data, frame, wanted) for frame in frames]
        except BerError as error:
            raise self.strange(error) from None

    def _ask(self, search: Search, cookie: bytes) -> int:
        """Send one page's request; its number."""
        try:
            request = search_operation(
                search.base,
                search.filter,
                _SCOPES[search.scope],
                ldap3.DEREF_NEVER,
                list(search.attributes),
                0,  # no size limit of ours
                0,  # nor of time
                types_only=False,
                auto_escape=False,
                auto_encode=False,
            )
            control = paged_search_control(False, search.page_size, cookie)  # noqa: FBT003  ldap3's order
            return int(self._connection.send("searchRequest", request, [control]))
        except OSError as error:
            raise self._failed("asking", error) from error
        except LDAPExceptionError as error:
            if self._closed or self._connection.socket is None:
                raise self._failed("asking", error) from error
            words = f"{self._where} cannot be asked for {search.filter!r}: {error}"
            raise StepError(words, retryable=False) from error

    def _cookie(self, search: Search, done: Frame, data: bytes, count: int) -> bytes:
        """What the next page is asked for with; StepError unless the server says success."""
        try:
            result = ldap_ber.result(data, done)
        except BerError as error:
            raise self.strange(error) from None
        if result.code != ldap_errors.SUCCESS:
            raise ldap_errors.search_ended(self._where, search.base, result, count)
        return result.cookie

    def receive(self) -> bytes:
        """Some bytes of the server; StepError when it is silent or gone."""
        try:
            received: bytes = self._connection.socket.recv(_RECEIVED)
        except (OSError, AttributeError) as error:
            raise self._failed("answering", error) from error
        if not received:
            if self._closed:
                raise self._failed("answering", ConnectionError())
            raise ldap_errors.disconnected(self._where, "before the end of its answer")
        return received

    def told(self, data: bytes, frame: Frame) -> StepError:
        """What a message that answers nothing of ours means."""
        if frame.id == 0 and frame.kind == ldap_ber.EXTENDED:
            with suppress(BerError):
                said = ldap_ber.result(data, frame)
                words = said.message or ldap_errors.named(said.code)
                return ldap_errors.disconnected(self._where, words)
        return ldap_errors.not_ldap(self._where, f"message {frame.id} of kind 0x{frame.kind:02x}")

    def strange(self, error: BerError) -> StepError:
        return ldap_errors.not_ldap(self._where, str(error))
