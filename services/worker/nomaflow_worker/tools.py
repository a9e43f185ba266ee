"""What every run of this worker shares: database, doorbell, project, sandbox, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nomaflow.connectors.http.connector import HttpPolicy
from nomaflow_worker.children import Children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.broker.bell import Bell
    from nomaflow.project.folder import Project
    from nomaflow.project.secrets import Secrets
    from nomaflow.store.claims import Claimed
    from nomaflow.store.database import Database
    from nomaflow_worker.committer import Committer
    from nomaflow_worker.connections import Connections
    from nomaflow_worker.sandbox.pool import Sandbox


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run, from the settings."""

    lease_seconds: float = 15.0
    log_max_lines: int = 1_000_000
    truncate_bytes: int = 64 * 1024
    hold_wait_seconds: float = 5.0
    """A back-off longer than this gives the worker's slot back; the run is queued meanwhile."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What jobs may reach: file jobs are trusted like code, jobs made by the API are not."""

    private_hosts: bool = True
    allowed_hosts: tuple[str, ...] = ()
    only_hosts: tuple[str, ...] = ()
    api_env: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tools:
    """Handed to every chain."""

    name: str
    db: Database
    bell: Bell
    committer: Committer
    project: Project
    connections: Connections
    sandbox: Sandbox
    secrets: Secrets
    limits: Limits = Limits()
    reach: Reach = Reach()
    url: str = ""
    """Base address of the API, for links in alerts."""
    children: Children = field(default_factory=Children)

    def env_for(self, claimed: Claimed) -> Mapping[str, str]:
        """The names of `.env` that this run's definition may use."""
        env = self.project.env()
        if not claimed.reads_listed_env:
            return env
        return {name: value for name, value in env.items() if name in self.reach.api_env}

    def http_policy(self, claimed: Claimed) -> HttpPolicy:
        """Where this run's http steps may go."""
        trusted = claimed.origin != "api"
        return HttpPolicy(
            allow_private=trusted and self.reach.private_hosts,
            allow_hosts=self.reach.allowed_hosts,
            only_hosts=self.reach.only_hosts,
        )
