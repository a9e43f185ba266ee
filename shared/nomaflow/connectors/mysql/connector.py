"""A step's use of a MySQL or MariaDB database over asyncmy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nomaflow.connectors import statement
from nomaflow.connectors.borrowed import BorrowedConnector, command_of, values_of
from nomaflow.connectors.mysql import errors as mysql_errors
from nomaflow.connectors.mysql import values as mysql_values
from nomaflow.connectors.mysql.pool import MysqlConnections, mark
from nomaflow.connectors.mysql.server import Answer, Reading, Server
from nomaflow.connectors.spec import SqlConnectorSpec
from nomaflow.connectors.sql import Params, Result, Session, SqlPool
from nomaflow.errors import StepError


class MysqlPool(SqlPool):
    """The connections of one MySQL or MariaDB connector in this process."""

    def __init__(self, name: str, spec: SqlConnectorSpec) -> None:
        self.name = name
        self.spec = spec
        self._connections = MysqlConnections(name, spec)

    def connector(self, session: Session) -> MysqlConnector:
        return MysqlConnector(self.name, self.spec, session, self._connections)

    async def close(self) -> None:
        await self._connections.close()

    async def end(self, number: int, application: str) -> None:
        connector = self.connector(Session(application="nomaflow:rescue"))
        try:
            lock = mark(application, number)
            if await connector.scalar("SELECT IS_USED_LOCK(:lock)", {"lock": lock}) == number:
                await self._connections.kill(number)
        finally:
            await connector.close()


def make_pool(name: str, spec: SqlConnectorSpec) -> MysqlPool:
    """What `connectors.sql.pool` calls for mysql:// and mariadb:// URLs."""
    return MysqlPool(name, spec)


class MysqlConnector(BorrowedConnector[Server]):
    """One connection, one statement at a time.

    Sessions are in UTC and strict: what does not fit a column is an error. Statements that
    change tables (CREATE, ALTER ...) end the transaction they are in, as MySQL will have it.
    """

    trouble = mysql_errors.DRIVER
    _connections: MysqlConnections

    @property
    def dialect(self) -> str:
        return "mysql"

    async def execute(self, sql: str, params: Params = None) -> Result:
        server = await self._ready(sql)
        with self.translated():
            with self._working(server):
                answer = await self._answer(server, sql, params)
            await self._stay_inside(server)
        if not answer.fields:
            return Result([], answer.changed, command_of(sql, answered=False))
        mysql_values.check_dates(answer.rows, mysql_values.dates(answer.fields))
        columns = [field[0] for field in answer.fields]
        rows = [dict(zip(columns, row, strict=True)) for row in self.trimmed(answer.rows)]
        return Result(rows, len(rows), command_of(sql, answered=True), columns)

    async def say(self, text: str) -> Answer:
        """Run a statement as it is written, without parameters; the answer counts warnings."""
        server = await self.raw()
        with self.translated(), self._working(server):
            return await server.say(text)

    async def load(self, text: str, portions: AsyncIterator[bytes]) -> Answer:
        """Run a LOAD DATA LOCAL INFILE whose file is `portions`; the answer counts warnings."""
        server = await self.raw()
        with self.translated(), self._working(server):
            return await server.load(text, portions)

    async def warnings(self) -> list[tuple[str, int, str]]:
        """Level, number and words of the warnings that the last statement left."""
        server = await self.raw()
        with self.translated():
            return [(row[0], int(row[1]), row[2]) for row in await server.show_warnings()]

    async def _answer(self, server: Server, sql: str, params: Params) -> Answer:
        """The server's answer; text that is a moment with a zone is sent again as plain UTC.

        `2024-05-06T07:08:09Z` is no date for MySQL: a column refuses it, and a comparison
        leaves the zone out of account with no more than a warning.
        """
        try:
            answer = await server.say(self._written(server, sql, params))
        except self.trouble as error:
            number = mysql_errors.number_of(error)
            if number not in mysql_errors.WRONG_MOMENT or not _moments(params):
                raise
        else:
            misread = answer.fields and answer.warnings and _moments(params)
            if not misread or mysql_errors.WRONG_MOMENT.isdisjoint(await server.warnings()):
                return answer
        return await server.say(self._written(server, sql, _in_utc(params)))

    async def _understood(self, server: Server, sql: str, params: Params) -> Params:
        """The same for rows that will not be read twice: the server's plan has the warning too."""
        if not _moments(params):
            return params
        try:
            planned = await server.say(f"EXPLAIN {self._written(server, sql, params)}")
        except self.trouble as error:
            misread = mysql_errors.number_of(error) in mysql_errors.WRONG_MOMENT
        else:
            warned = await server.warnings() if planned.warnings else ()
            misread = not mysql_errors.WRONG_MOMENT.isdisjoint(warned)
        return _in_utc(params) if misread else params

    async def _batches(
        self, connection: Server, sql: str, params: Params, batch: int
    ) -> AsyncGenerator[tuple[Sequence[str], list[Any]], None]:
        with self.translated():
            params = await self._understood(connection, sql, params)
            text = self._written(connection, sql, params)
            connection.is_working = True
            reading = await connection.ask(text)
            columns = [field[0] for field in reading.fields]
            places = mysql_values.dates(reading.fields)
            try:
                while reading.fields and (rows := await reading.next(batch)):
                    mysql_values.check_dates(rows, places)
                    yield columns, rows
            except (GeneratorExit, StepError):
                await self._abandon(connection, reading)
                raise
            await reading.end()
            connection.is_working = False
            await self._stay_inside(connection)

    async def _abandon(self, server: Server, reading: Reading) -> None:
        """Nobody wants the rest: the server stops sending, the transaction stays as it is."""
        await self._connections.kill(server.number, only_statement=True)
        try:
            while await reading.next(1000):
                pass
            await reading.end()
        except self.trouble as error:
            self._broken = mysql_errors.number_of(error) != mysql_errors.INTERRUPTED
        if not self._broken:
            # An order that came too late hits this instead of the step's next statement.
            try:
                await server.say("DO 0")
            except self.trouble as error:
                self._broken = mysql_errors.number_of(error) != mysql_errors.INTERRUPTED
        server.is_working = self._broken

    def _written(self, server: Server, sql: str, params: Params) -> str:
        """The statement with a literal in each parameter's place."""
        if not server.reads_backslashes:
            raise StepError(
                f"connector {self.name!r}: the session's sql_mode has NO_BACKSLASH_ESCAPES, under "
                "which the text of a statement cannot be read safely; take it out",
                retryable=False,
            )
        parsed = statement.parse(sql, "mysql")
        given = values_of(parsed.order(), params)
        return parsed.spliced({name: mysql_values.literal(name, value) for name, value in given})

    async def _stay_inside(self, server: Server) -> None:
        """A statement that ended the transaction by itself (CREATE TABLE) begins the next one."""
        if self._level and not server.is_in_transaction:
            await self._begin(server, read_only=self._only_reads)

    @contextmanager
    def _working(self, connection: Server) -> Iterator[None]:
        connection.is_working = True
        try:
            yield
        except self.trouble as error:
            # An error that the server numbered is its last word on the statement.
            connection.is_working = mysql_errors.number_of(error) not in range(1000, 2000)
            raise
        except StepError:
            connection.is_working = False
            raise
        else:
            connection.is_working = False

    def _backend_pid(self, connection: Server) -> int:
        return connection.number

    async def _say(self, connection: Server, words: str) -> None:
        try:
            await connection.say(words)
        except self.trouble as error:
            # A savepoint goes with the transaction that a CREATE TABLE has ended.
            if mysql_errors.number_of(error) != mysql_errors.NO_SAVEPOINT:
                raise

    async def _begin(self, connection: Server, *, read_only: bool) -> None:
        await connection.say(f"START TRANSACTION READ {'ONLY' if read_only else 'WRITE'}")

    def _failed(self, error: BaseException) -> StepError:
        return mysql_errors.failed(self.name, error)


def _moments(params: Params) -> bool:
    return any(mysql_values.is_moment(value) for value in (params or {}).values())


def _in_utc(params: Params) -> Params:
    return {name: mysql_values.in_utc(value) for name, value in (params or {}).items()}
