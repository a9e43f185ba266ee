"""asyncmy's connection to a MySQL or MariaDB server, with words of our own for what we need."""

from __future__ import annotations

import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from asyncmy import errors
from asyncmy.connection import Connection
from asyncmy.constants.CLIENT import DEPRECATE_EOF, SSL
from asyncmy.constants.CR import CR_AUTH_PLUGIN_CANNOT_LOAD, CR_SSL_CONNECTION_ERROR
from asyncmy.constants.ER import NET_PACKET_TOO_LARGE
from asyncmy.cursors import Cursor, SSCursor
from asyncmy.errors import InterfaceError
from asyncmy.protocol import OKPacketWrapper

_COM_QUERY, _COM_SET_OPTION, _COM_RESET_CONNECTION = 0x03, 0x1B, 0x1F
_PACKET = 1_000_000  # bytes; the driver numbers packets and cannot split one of 16 MB
_MULTI_STATEMENTS_OFF = struct.pack("<H", 1)
_TELLS_THE_PASSWORD = frozenset({b"mysql_clear_password", b"mysql_old_password", b"dialog"})
_IN_TRANSACTION, _NO_BACKSLASH = 0x1, 0x200  # SERVER_STATUS_ flags
_BATCH_BYTES = 500_000
"""Where a batch ends though fewer rows came than were asked for: rows may have megabytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement answered: fields as (name, type code, ...), rows, rows met or changed."""

    fields: Sequence[Sequence[Any]]
    rows: Sequence[Sequence[Any]]
    changed: int
    warnings: int


class _Quiet(Cursor):  # type: ignore[misc]  # compiled, without types
    """asyncmy's cursor asks for a statement's warnings and logs them, with the data they quote."""

    async def _show_warnings(self, _connection: Any) -> None:
        return


class Server(Connection):  # type: ignore[misc]  # compiled, without types
    """One connection; `mode` is the sql_mode that its sessions are to have."""

    _ssl_context: Any
    prefers_tls = False
    mode = ""
    longest = 0
    """Bytes that the server takes as one statement (max_allowed_packet); 0: not asked yet."""
    is_working = False
    """Whether a statement of a step was sent and its answer is not read to the end."""

    async def _get_server_information(self) -> None:
        await super()._get_server_information()
        # Without it the end of the rows is told by its length. With it asyncmy takes a row whose
        # first value has 16 MB or more for the end, and waits for ever for what comes after it.
        self.server_capabilities &= ~DEPRECATE_EOF
        if self._ssl_context is None or self.server_capabilities & SSL:
            return
        if not self.prefers_tls:
            raise errors.OperationalError(CR_SSL_CONNECTION_ERROR, "the server does not offer TLS")
        self._ssl_context = None
        self._client_flag &= ~SSL

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        """A server may ask for the password itself; only one that is known for certain gets it.

        asyncmy would send it to whoever asks, as no client of MySQL does unasked.
        """
        context = self._ssl_context
        verified = context is not None and context.verify_mode is ssl.CERT_REQUIRED
        if plugin_name in _TELLS_THE_PASSWORD and not verified and self._unix_socket is None:
            raise errors.OperationalError(
                CR_AUTH_PLUGIN_CANNOT_LOAD,
                "the server asks for the password in clear text, which is sent only over TLS with "
                "a verified certificate (ssl_mode = verify-full)",
            )
        return await super()._process_auth(plugin_name, auth_packet)

    @property
    def number(self) -> int:
        """What the server calls the connection; KILL takes it."""
        return int(self.thread_id())

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, whose dialect differs here and there."""
        return "mariadb" in str(self.get_server_info()).lower()

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as we know."""
        return bool(self._connected) and self._transport is not None

    @property
    def is_in_transaction(self) -> bool:
        """Whether something is left to commit."""
        return bool(self.server_status & _IN_TRANSACTION)

    @property
    def reads_backslashes(self) -> bool:
        """Whether a backslash in a literal means what `statement.parse` takes it for."""
        return not self.server_status & _NO_BACKSLASH

    async def one_statement_at_a_time(self) -> None:
        """Let the server refuse `SELECT 1; DROP TABLE t`, which asyncmy asks it to allow."""
        await self._execute_command(_COM_SET_OPTION, _MULTI_STATEMENTS_OFF)
        await self.read_packet()

    async def reset(self) -> None:
        """Forget temporary tables, variables, locks and settings of the session."""
        await self._execute_command(_COM_RESET_CONNECTION, b"")
        await self._read_ok_packet()

    async def say(self, text: str) -> Answer:
        """Run one statement and read its whole answer; the first one where there are several."""
        cursor = _Quiet(self)
        await cursor.execute(self._sendable(text))
        fields = tuple(cursor.description or ())
        rows = await cursor.fetchall() if fields else ()
        changed, warned = int(cursor.rowcount), int(self._result.warning_count)
        while await cursor.nextset():  # a procedure's further answers
            changed = int(cursor.rowcount)
        return Answer(fields, rows, max(changed, 0), warned)

    async def load(self, text: str, portions: AsyncIterator[bytes]) -> Answer:
        """Run a LOAD DATA LOCAL INFILE, whose file is `portions`; no file is ever opened.

        The server tells bad values by warnings only, and reads to the end whatever happens.
        """
        await self._execute_command(_COM_QUERY, text)
        packet = await self.read_packet()
        if not packet.is_load_local_packet():
            raise InterfaceError(0, "the statement is no LOAD DATA LOCAL")
        async for portion in portions:
            for start in range(0, len(portion), _PACKET):
                self.write_packet(bytes(portion[start : start + _PACKET]))
                await self._proto.drain()
        self.write_packet(b"")
        await self._proto.drain()
        answer = OKPacketWrapper(await self.read_packet())
        self.server_status = answer.server_status
        return Answer((), (), int(answer.affected_rows), int(answer.warning_count))

    def _sendable(self, text: str) -> str:
        """The statement, unless the server would hang up on it for its length."""
        if self.longest and len(text) * 4 >= self.longest:
            size = len(text.encode()) + 1
            if size > self.longest:
                raise errors.ProgrammingError(
                    NET_PACKET_TOO_LARGE,
                    f"a statement of {size} bytes is longer than the server's max_allowed_packet "
                    f"of {self.longest}",
                )
        return text

    async def warnings(self) -> list[int]:
        """Numbers of the warnings that the last statement left."""
        return [int(row[1]) for row in await self.show_warnings()]

    async def ask(self, text: str) -> Reading:
        """Run one statement whose rows are read by the batch."""
        cursor = SSCursor(self)
        await cursor.execute(self._sendable(text))
        return Reading(self, cursor)


class Reading:
    """Rows on their way. The socket is not read while the step looks at those it has.

    asyncmy would otherwise read ahead without end.
    """

    def __init__(self, server: Server, cursor: Any) -> None:
        self._server = server
        self._cursor = cursor
        self.fields: Sequence[Sequence[Any]] = tuple(cursor.description or ())

    async def next(self, batch: int) -> list[Any]:
        """At most `batch` rows, fewer when they are large; none at the end."""
        transport = self._server._transport  # noqa: SLF001
        if transport is None:
            raise ConnectionResetError("the connection is closed")
        transport.resume_reading()
        rows: list[Any] = []
        room = _BATCH_BYTES
        while len(rows) < batch and room > 0:
            row = await self._cursor.read_next()
            if row is None:
                break
            beside = self._server._result._take_pending_rows(batch - len(rows) - 1)  # noqa: SLF001
            room -= _size(row) + len(beside) * (_size(beside[-1]) if beside else 0)
            rows.append(row)
            rows.extend(beside)
        if rows and self._server._transport is not None:  # noqa: SLF001
            transport.pause_reading()
        return rows

    async def end(self) -> None:
        """Leave the connection ready for the next statement."""
        await self._cursor.close()


def _size(row: Sequence[Any]) -> int:
    return sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)
