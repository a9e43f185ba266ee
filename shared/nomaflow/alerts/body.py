"""An alert as its receiver reads it: a Slack message, or the body a webhook gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nomaflow import alert_spec
from nomaflow.alerts.facts import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nomaflow.alert_spec import ChannelSpec

USERNAME = "Nomaflow"
ICON = ":gear:"


@dataclass(frozen=True, slots=True)
class Body:
    """What is posted, and as what."""

    content: bytes
    content_type: str


def of(channel: ChannelSpec, payload: Mapping[str, Any], recipient: str = "") -> Body:
    """Write the body that this kind of channel expects."""
    if channel.kind == "slack":
        return _slack(channel.template, payload, recipient)
    return _webhook(channel.template, payload)


def sentence(payload: Mapping[str, Any]) -> str:
    """Say in one line what happened to which job."""
    job = payload["job_name"]
    match Event(payload["event"]):
        case Event.FAILED:
            return f"{job} failed"
        case Event.LONG_RUN:
            return (
                f"{job} is still running after {payload['minutes']} minutes; "
                f"its limit is {payload['limit_minutes']}"
            )
        case Event.STALE:
            return f"{job} gave no sign of life for {_long(payload['minutes'])}"


def _long(minutes: str) -> str:
    return {"0": "less than a minute", "1": "1 minute"}.get(minutes, f"{minutes} minutes")


def _slack(template: str | None, payload: Mapping[str, Any], recipient: str) -> Body:
    text = alert_spec.fill(template, _words(payload, escaped=True)) if template else _text(payload)
    message = {"text": text, "username": USERNAME, "icon_emoji": ICON}
    if recipient:
        message["channel"] = recipient
    return _json(message)


def _text(payload: Mapping[str, Any]) -> str:
    """The message in our own words: job, failing step, error, link (A01)."""
    words = _words(payload, escaped=True)
    lines = [f"{_MARKS[Event(payload['event'])]} *{_for_slack(sentence(payload))}*"]
    if words["step"]:
        lines.append(f"Step: `{words['step']}`")
    if words["error"]:
        lines.append(f"Error: {words['error']}")
    facts = []
    if words["triggered_by"]:
        facts.append(f"triggered by {words['triggered_by']}")
    if words["started_at"]:
        facts.append(f"started {words['started_at']}")
    if words["finished_at"]:
        facts.append(f"finished {words['finished_at']}")
    if facts:
        lines.append(_capital(", ".join(facts)))
    if words["url"]:
        lines.append(f"<{words['url']}|Run {words['run_id']}>")
    elif words["run_id"]:
        lines.append(f"Run {words['run_id']}")
    return "\n".join(lines)


_MARKS = {
    Event.FAILED: ":x:",
    Event.LONG_RUN: ":hourglass_flowing_sand:",
    Event.STALE: ":zzz:",
}


def _webhook(template: str | None, payload: Mapping[str, Any]) -> Body:
    """Our object, or the template: its strings one by one when it is JSON, else the whole text."""
    if template is None:
        return _json(payload)
    words = _words(payload)
    try:
        shape = json.loads(template)
    except ValueError:
        return Body(alert_spec.fill(template, words).encode(), "text/plain; charset=utf-8")
    return _json(_filled(shape, words))


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    match value:
        case str():
            return alert_spec.fill(value, words)
        case dict():
            return {name: _filled(part, words) for name, part in value.items()}
        case list():
            return [_filled(part, words) for part in value]
        case _:
            return value


def _words(payload: Mapping[str, Any], *, escaped: bool = False) -> dict[str, str]:
    words = {name: str(payload.get(name) or "") for name in alert_spec.WORDS}
    return {name: _for_slack(word) for name, word in words.items()} if escaped else words


def _for_slack(text: str) -> str:
    # Slack reads `<!channel>` and links in a message: an error must not be able to page anyone.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _json(value: Any) -> Body:
    return Body(json.dumps(value, ensure_ascii=False).encode(), "application/json")
