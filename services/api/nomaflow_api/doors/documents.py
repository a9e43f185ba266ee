"""Documents read once: parsed, measured and validated, then kept for whoever sends them again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql import (
    GraphQLError,
    OperationDefinitionNode,
    StringValueNode,
    parse,
    specified_rules,
)
from graphql.language import visit
from graphql.language.visitor import SKIP, Visitor
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema import validate_document
from strawberry.types.graphql import OperationType

from nomaflow_api.doors import cost, failures, limits
from nomaflow_api.doors.failures import ApiCode, bad_input

if TYPE_CHECKING:
    from graphql import DocumentNode
    from strawberry.schema import Schema
    from strawberry.types import ExecutionContext

KEPT = 256
LONGEST_KEPT = 20_000
QUERY_SECONDS = 5.0
MUTATION_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed text, and why it is not run if it is not."""

    node: DocumentNode
    errors: list[GraphQLError]


class _Texts(Visitor):
    """Looks for text that no database can store (SEC-G17)."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = False

    def enter_string_value(self, node: StringValueNode, *_: Any) -> Any:
        """Look at one literal."""
        self.bad = self.bad or not is_storable(node.value)
        return SKIP


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can keep a text: no NUL, no lone surrogate."""
    if "\x00" in text:
        return False
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


class Documents:
    """The newest documents of one schema, by their text."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._kept: OrderedDict[str, Document] = OrderedDict()

    def read(self, text: str) -> Document:
        """Read a text, from memory if it came lately; GraphQLError when it cannot be parsed."""
        kept = self._kept.get(text)
        if kept is not None:
            self._kept.move_to_end(text)
            return kept
        node = parse(text, max_tokens=limits.MAX_TOKENS)
        document = Document(node, self._errors(node))
        if len(text) <= LONGEST_KEPT:
            self._kept[text] = document
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return document

    def _errors(self, node: DocumentNode) -> list[GraphQLError]:
        refusal = limits.refuse(node)
        if refusal is not None:
            return [refusal]
        texts = _Texts()
        visit(node, texts)
        if texts.bad:
            return [bad_input("A text holds NUL or half a surrogate pair, which cannot be kept.")]
        wrong = validate_document(
            self._schema._schema,  # noqa: SLF001  as strawberry's own validation cache does
            node,
            tuple(specified_rules),
        )
        return [failures.coded(error, ApiCode.GRAPHQL_VALIDATION_FAILED) for error in wrong]


class Reading(SchemaExtension):
    """Puts the kept document in place of parsing and validating, bills it, and bounds its time."""

    _errors: Sequence[GraphQLError] = ()

    def on_operation(self) -> Iterator[None]:
        """Give each operation its own reads, also on a WebSocket."""
        self.execution_context.context = self.execution_context.context.renewed()
        yield

    def on_parse(self) -> Iterator[None]:
        """Take the document from memory; strawberry itself reports what cannot be parsed."""
        context = self.execution_context
        context.parse_options["max_tokens"] = limits.MAX_TOKENS
        try:
            document = _documents(context).read(context.query or "")
        except GraphQLError:
            # An error that left this hook would never reach a subscriber.
            yield
            return
        context.graphql_document = document.node
        self._errors = document.errors
        yield

    def on_validate(self) -> Iterator[None]:
        """Take the verdict from memory, then make the bill with this request's variables."""
        context = self.execution_context
        errors = list(self._errors)
        document = context.graphql_document
        if not errors and document is not None and not _is_clear(document, context):
            errors = [bad_input("There are several operations; say which in `operationName`.")]
        elif not errors and document is not None:
            too_much = cost.refuse(
                context.schema._schema,  # noqa: SLF001
                document,
                context.operation_name,
                context.variables,
            )
            errors = [too_much] if too_much else []
        context.validation_rules = ()
        context.pre_execution_errors = errors or None
        yield

    async def on_execute(self) -> AsyncIterator[None]:
        """Let no query hold its caller, or the database, for long."""
        mutates = self.execution_context.operation_type is OperationType.MUTATION
        async with asyncio.timeout(MUTATION_SECONDS if mutates else QUERY_SECONDS):
            yield


def _is_clear(document: DocumentNode, context: ExecutionContext) -> bool:
    operations = [d for d in document.definitions if isinstance(d, OperationDefinitionNode)]
    # `operation_name` itself falls back to the first one's.
    return len(operations) == 1 or context._provided_operation_name is not None  # noqa: SLF001


def _documents(context: ExecutionContext) -> Documents:
    documents = getattr(context.schema, "documents", None)
    if not isinstance(documents, Documents):
        raise TypeError("the schema must be ours, with its documents")
    return documents


class Masking(SchemaExtension):
    """Lets out only what was written for the caller."""

    _streams = False

    def on_operation(self) -> Iterator[None]:
        """Look at the answer of a query or mutation."""
        yield
        if not self._streams:
            _mask(self.execution_context.result)

    def on_stream_result(self, result: Any) -> Iterator[None]:
        """Look at each answer of a stream."""
        self._streams = True
        _mask(result)
        yield


def _mask(result: Any) -> None:
    if result is not None and result.errors:
        result.errors = failures.shown(result.errors)
