"""The `ldap_sync` step: a table, or a query, follows what a directory holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from nomaflow.connectors.ldap import connector as ldap
from nomaflow.connectors.ldap import filter as ldap_filter
from nomaflow.connectors.ldap import schema as ldap_schema
from nomaflow.connectors.ldap import url as ldap_url
from nomaflow.connectors.ldap.ber import Wanted
from nomaflow.connectors.ldap.connector import LdapSession, LdapSettings, Search
from nomaflow.connectors.spec import LdapConnectorSpec
from nomaflow.errors import StepError
from nomaflow.steps.base import Interrupt, Step, StepResult, StepRunContext
from nomaflow.steps.counting import counted
from nomaflow.steps.directory import attributes, escaping, outcome, rows
from nomaflow.steps.directory.batch import Failures
from nomaflow.steps.directory.outcome import Read
from nomaflow.steps.directory.query import Query
from nomaflow.steps.directory.ranges import Ranges
from nomaflow.steps.directory.table import Table
from nomaflow.steps.directory.target import TableSettings, Target
from nomaflow.steps.directory.values import Column
from nomaflow.steps.vanishing import MaxDelete

_INLINE = ("bind_dn", "bind_password", "ca_file", "start_tls", "allow_plaintext")


class LdapSync(Step):
    """Read a directory to its end and let a table or a named query follow it."""

    type_name: ClassVar[str] = "ldap_sync"
    title: ClassVar[str] = "Directory sync"
    dry_runs: ClassVar[bool] = True
    tuning: ClassVar[frozenset[str]] = frozenset({"page_size", "min_entries", "max_delete"})
    secret: ClassVar[tuple[tuple[str, ...], ...]] = (("bind_password",),)

    connector: str | None = Field(None, description="The LDAP connector; or give `server`.")
    server: str | None = Field(
        None, description="Instead of a connector: ldaps://host or ldap://host."
    )
    bind_dn: str | None = Field(None, description="With `server`: who binds; absent: anonymous.")
    bind_password: SecretStr | None = Field(
        None, description="With `server`: the password, as ${env:NAME}."
    )
    ca_file: str | None = Field(
        None,
        description="With `server`: authorities to trust as well, PEM, relative to the project "
        "folder.",
    )
    start_tls: bool = Field(
        default=False, description="With `server`: encrypt an ldap:// connection before binding."
    )
    allow_plaintext: bool = Field(
        default=False,
        description="With `server`: let the password travel unencrypted to another machine.",
    )
    search_base: str = Field(description="The entry to search below; empty for the whole server.")
    search_filter: str = Field(
        "(objectClass=*)", description="Which entries (RFC 4515); a token in it is one value."
    )
    scope: Literal["base", "one", "subtree"] = Field(
        "subtree", description="base: the entry itself, one: its children, subtree: all below."
    )
    attributes: tuple[str, ...] = Field(
        (), description="The attributes to read, each into a column of its name; see `mapping`."
    )
    mapping: dict[str, str] = Field(
        default_factory=dict,
        description="Attribute to column, or to the query's parameter; `dn` is the entry's name.",
    )
    multi_value: str = Field(
        ";", max_length=20, description='What stands between several values, or "array".'
    )
    page_size: int = Field(1000, ge=1, le=100_000, description="Entries to ask for at once.")
    target_connector: str = Field(
        "default", min_length=1, description="The SQL connector to write to."
    )
    target_query: str | None = Field(
        None, description="A named query that writes, called for each entry: `name:write`."
    )
    schema_name: str | None = Field(
        None, alias="schema", description="The table's schema; absent: the search path's."
    )
    table: str | None = Field(None, description="Instead of a query: the table to fill.")
    key: tuple[str, ...] = Field(
        (), description="The columns that name a row; they need a unique index."
    )
    deletion: Literal["none", "soft", "hard"] = Field(
        "none",
        description="What becomes of rows that the directory no longer has: nothing, flagged in "
        "`deletion_column`, or deleted.",
    )
    deletion_column: str | None = Field(
        None, description="soft: a truth value, a number or a time that flags the row."
    )
    deletion_value: bool | None = Field(
        None, description="soft: what the column says of a row that is gone; absent: false."
    )
    min_entries: int = Field(
        1, ge=0, description="Fewer entries fail the step before anything changes."
    )
    max_delete: MaxDelete = Field(
        "10%", description="Rows that may go at once: a number, or a share as 10%."
    )

    @field_validator("server")
    @classmethod
    def _server(cls, value: str | None) -> str | None:
        if value is not None and "${" not in value:
            ldap_url.parts(value)
        return value

    @field_validator("search_filter")
    @classmethod
    def _filter(cls, value: str) -> str:
        if "${" not in value:
            ldap_filter.check(value)
        return value

    @field_validator("attributes")
    @classmethod
    def _attributes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(attributes.checked(name) for name in value)

    @field_validator("mapping")
    @classmethod
    def _mapping(cls, value: dict[str, str]) -> dict[str, str]:
        attributes.check_mapping(value)
        return value

    @model_validator(mode="after")
    def _whole(self) -> LdapSync:
        if (self.connector is None) == (self.server is None):
            raise ValueError("give either `connector` or `server`")
        if self.connector is not None:
            for name in _INLINE:
                if getattr(self, name):
                    raise ValueError(f"`{name}` belongs to `server`; the connector has its own")
        elif (self.bind_dn is None) != (self.bind_password is None):
            raise ValueError("`bind_dn` and `bind_password` go together")
        if (self.target_query is None) == (self.table is None):
            raise ValueError("give either `target_query` or `table` with `key`")
        if self.table is not None and not self.key:
            raise ValueError('`table` needs `key`, the columns that name a row: key = ["user_id"]')
        if self.table is None:
            self._check_query()
        self._check_deletion()
        return self

    def _check_query(self) -> None:
        for name in ("key", "schema_name"):
            if getattr(self, name):
                raise ValueError(f"`{name.removesuffix('_name')}` belongs to `table`")
        if self.deletion != "none":
            raise ValueError(
                "`deletion` needs `table` and `key`: a query does not say which rows there are"
            )

    def _check_deletion(self) -> None:
        if self.deletion == "soft" and not self.deletion_column:
            raise ValueError('`deletion = "soft"` needs `deletion_column`')
        if self.deletion != "soft":
            for name in ("deletion_column", "deletion_value"):
                if getattr(self, name) is not None:
                    raise ValueError(f'`{name}` is for `deletion = "soft"`')

    @classmethod
    def prepare(cls, config: Mapping[str, Any], render: Callable[[Any], Any]) -> Step:
        """Tokens inside a filter or a name are values there, whatever they hold (SEC-L01)."""
        ways = {
            "search_filter": ldap_filter.escaped,
            "search_base": ldap_filter.escaped_in_name,
        }
        ready = {
            name: escaping.within(value, render, ways[name]) if name in ways else render(value)
            for name, value in config.items()
        }
        return cls.model_validate(ready)

    def interrupt_default(self) -> Interrupt:
        """Read again from the start, it leads to the same table."""
        return "retry"

    async def run(self, ctx: StepRunContext) -> StepResult:
        """Read all, then change all or nothing."""
        started = time.monotonic()
        ldap_filter.check(self.search_filter)
        settings = ctx.ldap(self.connector or self._inline())
        failures = Failures(ctx.log)
        target = await self._target(ctx, failures)
        session = await ldap.open(settings)
        try:
            ctx.log.info(f"bound to {session.described}")
            if settings.is_exposed:
                ctx.log.warning("the password travels unencrypted, as allow_plaintext says")
            columns = await self._columns(session, target)
            await target.begin([column.name for column in columns], rehearsal=ctx.dry_run)
            read = await self._read(ctx, settings, session, target, columns, failures)
            await session.close()
            if read.entries < self.min_entries:
                raise StepError(
                    f"the directory gave {counted(read.entries, 'entry', 'entries')}, fewer than "
                    f"min_entries = {self.min_entries}; nothing was changed"
                )
            if read.entries and failures.count == read.entries:
                raise StepError(
                    f"none of {read.entries} entries fits: {failures.examples[0]}; nothing was "
                    "changed",
                    retryable=False,
                )
            changes = await (target.plan() if ctx.dry_run else target.apply())
        finally:
            await session.close()
            await target.end()
        elapsed = round((time.monotonic() - started) * 1000)
        return outcome.result(ctx, read, changes, failures, elapsed, self.deletion)

    def _inline(self) -> LdapConnectorSpec:
        secret = self.bind_password.get_secret_value() if self.bind_password else None
        try:
            return LdapConnectorSpec(
                kind="ldap",
                url=self.server or "",
                bind_dn=self.bind_dn,
                bind_password=secret,
                ca_file=self.ca_file,
                start_tls=self.start_tls,
                allow_plaintext=self.allow_plaintext,
            )
        except ValidationError as error:
            words = "; ".join(str(one["msg"]) for one in error.errors(include_input=False))
            raise StepError(f"`server`: {words}", retryable=False) from None

    async def _target(self, ctx: StepRunContext, failures: Failures) -> Target:
        connector = await ctx.sql(self.target_connector)
        if self.table is None:
            return Query(connector, self.target_query or "", failures)
        settings = TableSettings(
            self.schema_name,
            self.table,
            self.key,
            self.deletion,
            self.deletion_column,
            self.deletion_value,
            self.max_delete,
        )
        return Table(connector, settings, failures, ctx.log)

    async def _columns(self, session: LdapSession, target: Target) -> list[Column]:
        schema = await ldap_schema.read(session)
        pairs = attributes.pairs(self.mapping, self.attributes, await target.offered(), schema)
        kinds = await target.kinds([column for _, column in pairs])
        return [
            Column(column, attribute, kinds[column], schema.is_binary(attribute))
            for attribute, column in pairs
        ]

    async def _read(
        self,
        ctx: StepRunContext,
        settings: LdapSettings,
        session: LdapSession,
        target: Target,
        columns: list[Column],
        failures: Failures,
    ) -> Read:
        read = Read()
        maker = rows.RowMaker(columns, self.multi_value)
        places = rows.places(columns)
        names = tuple(places) or ("1.1",)  # no attributes at all, RFC 4511 section 4.5.1.8
        search = Search(self.search_base, self.search_filter, self.scope, names, self.page_size)
        ranges = Ranges(settings, tuple(dict.fromkeys(places)))
        try:
            async with aclosing(session.search(search, Wanted(places))) as chunks:
                async for chunk in chunks:
                    read.entries += len(chunk.entries)
                    read.pages += chunk.pages
                    read.references += chunk.references
                    made = await asyncio.to_thread(
                        maker.rows, await ranges.completed(chunk.entries)
                    )
                    for name, why in made.unfit:
                        failures.note(name, why)
                    await target.add(made.rows)
                    if len(made.poor):
                        await target.keep(made.poor)
                    ctx.progress(read.entries, unit="entries", pages=read.pages)
        finally:
            await ranges.close()
        if read.references:
            ctx.log.info(f"{read.references} references to other servers were not followed")
        return read
