"""What a resolver may know and reach: who asks, what the API stands on, and batched reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import strawberry
from strawberry.types.info import Info

from nomaflow_api.auth import Caller, Permission
from nomaflow_api.doors.failures import ApiCode, refusal
from nomaflow_api.graph.loading import Loaders

if TYPE_CHECKING:
    from nomaflow_api.backing import Backing


class Context:
    """One operation's context; a WebSocket has one of its own that each operation renews."""

    def __init__(self, backing: Backing, caller: Caller) -> None:
        self.backing = backing
        self.caller = caller
        self.db = backing.db
        self.load = Loaders(backing.db)

    def renewed(self) -> Context:
        """Return a context for another operation of the same caller."""
        return Context(self.backing, self.caller)

    def need(self, permission: Permission) -> None:
        """Refuse with FORBIDDEN unless the caller has that permission."""
        if not self.caller.may(permission):
            raise refusal(ApiCode.FORBIDDEN, f"This needs the permission `{permission}`.")


Asked = Info[Context, Any]
"""What strawberry hands to a resolver that asks for it."""

ABSENT: Any = strawberry.UNSET
"""The default of an argument that may be left out; false in conditions."""
