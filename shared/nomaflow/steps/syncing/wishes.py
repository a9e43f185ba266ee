"""What a sync is asked to do, as its rooms see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from nomaflow.steps.http import HttpStep
from nomaflow.steps.syncing.settings import LogTable, Paginate, Target, Watermark


class Wishes(Protocol):
    """The settings of an `http_sync` step."""

    @property
    def request(self) -> HttpStep: ...

    @property
    def paginate(self) -> Paginate | None: ...

    @property
    def items(self) -> str | None: ...

    @property
    def map(self) -> Mapping[str, str]: ...

    @property
    def target(self) -> Target: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def on_error(self) -> Literal["stop", "continue"]: ...

    @property
    def watermark(self) -> Watermark | None: ...

    @property
    def log_table(self) -> LogTable | None: ...
