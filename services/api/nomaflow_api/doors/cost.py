"""How much an operation may ask for: lists multiply, so the bill is made before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    get_named_type,
    is_composite_type,
    is_list_type,
    is_non_null_type,
    value_from_ast_untyped,
)

from nomaflow_api.doors.failures import ApiCode, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql import DocumentNode, GraphQLOutputType

MOST = 5_000
"""About so many objects may be asked for at once."""
OBJECT, LEAF, BLOB = 1.0, 0.1, 1.0
LONGEST_PAGE = 1_000
USUAL = 10
LENGTHS: Mapping[str, int] = {
    "Run.steps": 10,
    "Run.children": 5,
    "StepRun.attempts": 2,
    "Job.steps": 10,
    "Job.schedules": 2,
    "Job.presets": 2,
    "Job.dependsOn": 2,
    "Job.dependencies": 2,
    "Installation.runs": 20,
    "RunListPayload.runs": 20,
    "Query.blackouts": 20,
    "Job.inFlight": 5,
    "Job.watermarks": 2,
    "Connector.queries": 5,
    "Query.connectors": 20,
    "RunsChange.snapshot": 50,
    "LogsWritten.lines": 5,
}
"""How long the lists usually are that no argument bounds."""

_Parent = GraphQLObjectType | GraphQLInterfaceType


@dataclass(slots=True)
class _Bill:
    """One operation's reckoning; a fragment costs the same wherever it is spread."""

    schema: GraphQLSchema
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    known: dict[tuple[str, int | None], float] = field(default_factory=dict)

    def selections(self, chosen: SelectionSetNode, parent: Any, page: int | None) -> float:
        """Add up what is chosen of one object; `page` is the size of the connection it is."""
        total = 0.0
        for node in chosen.selections:
            match node:
                case FieldNode():
                    total += self._field(node, parent, page)
                case InlineFragmentNode():
                    named = node.type_condition
                    inner = self.schema.get_type(named.name.value) if named else parent
                    total += self.selections(node.selection_set, inner, page)
                case FragmentSpreadNode():
                    total += self._fragment(node.name.value, page)
        return total

    def _fragment(self, name: str, page: int | None) -> float:
        if (name, page) not in self.known:
            fragment = self.fragments[name]
            inner = self.schema.get_type(fragment.type_condition.name.value)
            self.known[name, page] = self.selections(fragment.selection_set, inner, page)
        return self.known[name, page]

    def _field(self, node: FieldNode, parent: Any, page: int | None) -> float:
        name = node.name.value
        if name.startswith("__") or not isinstance(parent, _Parent):
            return 0.0
        definition: GraphQLField = parent.fields[name]
        named = get_named_type(definition.type)
        if not is_composite_type(named) or node.selection_set is None:
            several = (_is_list(definition.type) and self._page(node, definition)) or 1
            return several * (BLOB if named.name == "JSON" else LEAF)
        own_page = self._page(node, definition)
        times = 1
        if _is_list(definition.type):
            times = LENGTHS.get(f"{parent.name}.{name}", USUAL)
            if name in {"nodes", "edges"} and page is not None:
                times = page
        return times * (OBJECT + self.selections(node.selection_set, named, own_page))

    def _page(self, node: FieldNode, definition: GraphQLField) -> int | None:
        """Read how many a connection is asked for, from its arguments or their defaults."""
        if "first" not in definition.args:
            return None
        given = {
            a.name.value: value_from_ast_untyped(a.value, dict(self.variables))
            for a in node.arguments or ()
            if a.name.value in {"first", "last"}
        }
        size = given.get("last")
        if size is None:
            size = given.get("first", definition.args["first"].default_value)
        return max(0, min(size, LONGEST_PAGE)) if isinstance(size, int) else USUAL


def _is_list(kind: GraphQLOutputType) -> bool:
    while is_non_null_type(kind):
        kind = kind.of_type
    return is_list_type(kind)


def refuse(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation_name: str | None,
    variables: Mapping[str, Any] | None,
) -> GraphQLError | None:
    """Return the refusal of an operation that asks for too much; the document must be valid."""
    fragments = {
        d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
    }
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        if operation_name and (not definition.name or definition.name.value != operation_name):
            continue
        bill = _Bill(schema, fragments, _with_defaults(definition, variables or {}))
        root = schema.get_root_type(definition.operation)
        cost = bill.selections(definition.selection_set, root, None)
        if cost > MOST:
            return refusal(
                ApiCode.COST_LIMIT,
                f"This asks for about {min(cost, 1e12):.0f} objects at once; at most {MOST} are "
                "answered. Ask for shorter pages or fewer levels.",
            )
    return None


def _with_defaults(operation: OperationDefinitionNode, given: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        v.variable.name.value: value_from_ast_untyped(v.default_value)
        for v in operation.variable_definitions or ()
        if v.default_value is not None
    }
    return defaults | dict(given)
