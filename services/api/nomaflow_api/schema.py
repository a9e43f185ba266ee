"""The schema: every part of the graph put together, and printed for `schema.graphql`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import strawberry
from strawberry.schema.config import StrawberryConfig

from nomaflow_api.closing import ClosingMutations
from nomaflow_api.connectors import Connector, ConnectorMutations, ConnectorQueries
from nomaflow_api.doors.documents import Documents, Masking, Reading
from nomaflow_api.external import ExternalMutations, ExternalQueries
from nomaflow_api.functions import CallableQueries
from nomaflow_api.graph.feed import EVENT_TYPES
from nomaflow_api.graph.jobs import Job
from nomaflow_api.graph.nodes import NodeQueries
from nomaflow_api.graph.runs import Run
from nomaflow_api.graph.scalars import SCALARS
from nomaflow_api.graph.steps import StepRun
from nomaflow_api.installing import InstallMutations, InstallQueries
from nomaflow_api.jobs import JobMutations, JobQueries
from nomaflow_api.live import Subscription
from nomaflow_api.runs import RunMutations, RunQueries
from nomaflow_api.schedules import ScheduleQueries
from nomaflow_api.syncs import SyncMutations
from nomaflow_api.system import SystemQueries

if TYPE_CHECKING:
    from graphql import GraphQLError
    from strawberry.types import ExecutionContext

HEADER = """\
# Printed from the code by `python -m nomaflow_api.schema`; a test holds this file equal to it.
# How to read it (errors, pages, cursors, limits): docs/reference/api.md
"""


@strawberry.type
class Query(
    NodeQueries,
    JobQueries,
    RunQueries,
    ScheduleQueries,
    ConnectorQueries,
    SystemQueries,
    CallableQueries,
    ExternalQueries,
    InstallQueries,
):
    pass


@strawberry.type
class Mutation(
    JobMutations,
    RunMutations,
    ConnectorMutations,
    ExternalMutations,
    ClosingMutations,
    InstallMutations,
    SyncMutations,
):
    pass


class Schema(strawberry.Schema):
    """Strawberry's schema with a memory for documents; faults are logged where they are masked."""

    def __init__(self) -> None:
        super().__init__(
            query=Query,
            mutation=Mutation,
            subscription=Subscription,
            types=[Job, Run, StepRun, Connector, *EVENT_TYPES],
            extensions=[Masking, Reading],
            config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
        )
        self.documents = Documents(self)

    def process_errors(
        self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None
    ) -> None:
        """Say nothing here: `failures` logs what is ours to mend, once and with an id."""


def printed() -> str:
    """Return the schema as the committed file holds it."""
    return f"{HEADER}\n{Schema().as_str()}\n"


if __name__ == "__main__":
    sys.stdout.write(printed())
