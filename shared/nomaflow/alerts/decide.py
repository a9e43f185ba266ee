"""Who is told: one run and its job's alerts block in, messages for the outbox out.

Nothing here reads or sends anything, so the caller can write the answer in the same transaction
as the move it tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomaflow import alert_spec
from nomaflow.alerts.facts import Event
from nomaflow.lifecycle import RunStatus
from nomaflow.store.transitions import NewDelivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nomaflow.alert_spec import Channels
    from nomaflow.alerts.facts import RunFacts
    from nomaflow.job.spec import AlertSpec


def on_finish(block: AlertSpec | None, facts: RunFacts, channels: Channels) -> list[NewDelivery]:
    """Messages for a run that is over (A01); an empty list when nobody asked for any."""
    if block is None or not block.on_failure or facts.state != RunStatus.FAILED:
        return []
    return _messages(Event.FAILED, block.recipients, facts, channels)


def on_long_run(
    block: AlertSpec | None, facts: RunFacts, channels: Channels, *, minutes: int
) -> list[NewDelivery]:
    """Messages for a run that goes on after `on_long_run_minutes` (A03)."""
    if block is None or block.on_long_run_minutes is None:
        return []
    limit = f"{block.on_long_run_minutes:g}"
    return _messages(
        Event.LONG_RUN,
        block.recipients,
        facts,
        channels,
        minutes=minutes,
        limit_minutes=limit,
    )


def on_outside(
    block: AlertSpec | None, event: Event, facts: RunFacts, channels: Channels, **more: Any
) -> list[NewDelivery]:
    """Messages for a run that a script executes elsewhere and reported as failed, or fell silent.

    A declared job of its name decides as for its own runs; without one, the routes do (Z14).
    """
    if block is not None:
        return (
            _messages(event, block.recipients, facts, channels, **more) if block.on_failure else []
        )
    if not channels.routed(facts.job_name, facts.app, facts.tags):
        return []
    return _messages(event, (), facts, channels, **more)


def targets(
    recipients: Sequence[str], channels: Channels, facts: RunFacts
) -> list[tuple[str, str]]:
    """Channel and room for each recipient, each pair once.

    Nobody named means the routes that fit the run, or else the default channel. A recipient that
    nothing can reach keeps its words: its message is written all the same, and its delivery says
    what is missing.
    """
    if recipients:
        return list(dict.fromkeys(_target(recipient, channels) for recipient in recipients))
    routed = channels.routed(facts.job_name, facts.app, facts.tags)
    return [(name, "") for name in routed or (channels.default or alert_spec.DEFAULT,)]


def _target(recipient: str, channels: Channels) -> tuple[str, str]:
    is_room = recipient.startswith(("#", "@"))
    if recipient in channels.by_name or not (is_room or "@" in recipient):
        return recipient, ""
    slack = channels.slack if is_room else None
    return slack or alert_spec.DEFAULT, recipient


def _messages(
    event: Event, recipients: Sequence[str], facts: RunFacts, channels: Channels, **more: Any
) -> list[NewDelivery]:
    payload = facts.payload(event, **more)
    return [
        NewDelivery(facts.job_name, event.value, channel, recipient, payload)
        for channel, recipient in targets(recipients, channels, facts)
    ]
