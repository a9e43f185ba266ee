"""Documents that are refused by their shape alone, before anyone validates or runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)

from nomaflow_api.doors.failures import ApiCode, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql import DocumentNode

MAX_TOKENS = 2_000
MAX_DEPTH = 10
MAX_ALIASES = 15
MAX_MUTATIONS = 5


@dataclass(frozen=True, slots=True)
class _Shape:
    """What an expanded selection amounts to: levels of objects, aliases, fields at its top."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0


@dataclass(slots=True)
class _Measure:
    """Measures each fragment once, however often it is spread, so no document takes long."""

    fragments: Mapping[str, FragmentDefinitionNode]
    known: dict[str, _Shape] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def selection(self, chosen: SelectionSetNode) -> _Shape:
        depth = aliases = fields = 0
        for node in chosen.selections:
            if isinstance(node, FieldNode):
                fields += 1
                aliases += node.alias is not None
                if node.selection_set is None or node.name.value.startswith("__"):
                    continue
                inner = self.selection(node.selection_set)
                depth, aliases = max(depth, inner.depth + 1), aliases + inner.aliases
                continue
            inner = (
                self._fragment(node.name.value)
                if isinstance(node, FragmentSpreadNode)
                else self.selection(node.selection_set)  # type: ignore[attr-defined]
            )
            depth, aliases = max(depth, inner.depth), aliases + inner.aliases
            fields += inner.fields
        return _Shape(depth, aliases, fields)

    def _fragment(self, name: str) -> _Shape:
        """Measure a fragment; unknown and circular ones are for validation to report."""
        if name not in self.known:
            fragment = self.fragments.get(name)
            if fragment is None or name in self.open:
                return _Shape()
            self.open.add(name)
            self.known[name] = self.selection(fragment.selection_set)
            self.open.discard(name)
        return self.known[name]


def refuse(document: DocumentNode) -> GraphQLError | None:
    """Return the refusal of a document that goes too deep or is too wide, or None."""
    measure = _Measure(
        {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    )
    aliases = 0
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        shape = measure.selection(definition.selection_set)
        aliases += shape.aliases
        if shape.depth > MAX_DEPTH:
            return refusal(
                ApiCode.DEPTH_LIMIT, f"This goes deeper than {MAX_DEPTH} levels of objects."
            )
        if aliases > MAX_ALIASES:
            return refusal(
                ApiCode.ALIAS_LIMIT, f"This has more than {MAX_ALIASES} aliases, fragments spread."
            )
        if definition.operation is OperationType.MUTATION and shape.fields > MAX_MUTATIONS:
            return refusal(
                ApiCode.COST_LIMIT,
                f"At most {MAX_MUTATIONS} mutations may go in one operation.",
            )
    return None
