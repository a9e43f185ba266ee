"""What a listener knows of one run, folded from its events; says each event as plain lines too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from nomaflow.cli import words

TAIL_LINES = 200
RATE_SECONDS = 10.0
SECONDS_BETWEEN_PROGRESS_LINES = 5.0
FINAL = frozenset({"SUCCEEDED", "PARTIAL", "FAILED", "ABORTED", "SKIPPED"})

JSON = dict[str, Any]


@dataclass(slots=True)
class Progress:
    """How far a step has come; `samples` of the last seconds give its speed."""

    done: int = 0
    total: int | None = None
    unit: str = "rows"
    message: str | None = None
    samples: deque[tuple[datetime, int]] = field(default_factory=deque)
    said_at: datetime | None = None

    def heard(self, at: datetime, told: JSON) -> None:
        self.done = int(told["done"])
        self.total = int(told["total"]) if told.get("total") is not None else None
        self.unit = told.get("unit") or "rows"
        self.message = told.get("message")
        self.samples.append((at, self.done))
        while (at - self.samples[0][0]).total_seconds() > RATE_SECONDS:
            self.samples.popleft()

    @property
    def fraction(self) -> float | None:
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def per_second(self) -> float | None:
        """Units per second lately; None before two different moments were heard."""
        (first, before), (last, now) = self.samples[0], self.samples[-1]
        seconds = (last - first).total_seconds()
        return (now - before) / seconds if seconds > 0 else None

    def is_due(self, at: datetime) -> bool:
        """Tell whether a plain listener should hear of it again: not at every batch."""
        last = self.said_at
        if last and (at - last).total_seconds() < SECONDS_BETWEEN_PROGRESS_LINES:
            return False
        self.said_at = at
        return True

    def sentence(self) -> str:
        """`300 000 / 500 000 rows · 60 % · 250 000 rows/s · message`."""
        total = f" / {words.number(self.total)}" if self.total else ""
        parts = [f"{words.number(self.done)}{total} {self.unit}".rstrip()]
        if self.fraction is not None:
            parts.append(f"{self.fraction:.0%}".replace("%", " %"))
        if rate := self.per_second:
            parts.append(f"{words.number(rate)} {self.unit}/s")
        if self.message:
            parts.append(self.message)
        return " · ".join(parts)


@dataclass(slots=True)
class Step:
    """One link of the chain as heard so far."""

    position: int
    name: str
    type: str
    status: str = "PENDING"
    attempt: int = 0
    reason: str | None = None
    summary: str = ""
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None

    @classmethod
    def planned(cls, told: JSON) -> Self:
        planned = cls(told["position"], told["name"], told["type"])
        if told.get("status") == "SKIPPED":
            planned.status, planned.reason = "SKIPPED", told["reason"]
        return planned

    @property
    def is_over(self) -> bool:
        return self.status in FINAL

    def seconds(self, now: datetime) -> float | None:
        if self.started_at is None or self.status == "SKIPPED":
            return None
        return ((self.finished_at or now) - self.started_at).total_seconds()

    def account(self) -> str:
        """In one line: what it did, why it failed or was passed over."""
        if self.status in {"FAILED", "RETRYING", "ABORTED"}:
            return self.error or self.reason or self.summary
        if self.status == "SKIPPED":
            return (self.reason or "").removeprefix("skipped: ")
        return self.summary


@dataclass(slots=True)
class LogLine:
    at: datetime
    level: str
    step: str | None
    message: str

    @classmethod
    def of(cls, told: JSON) -> Self:
        return cls(_at(told["at"]), told["level"], told.get("step"), told["message"])

    def text(self, stamp: Callable[[datetime], str] = words.clock) -> str:
        step = f"{self.step}: " if self.step else ""
        return f"{stamp(self.at)}  {self.level:<7}  {step}{self.message}"


@dataclass(slots=True)
class Timeline:
    """One run as a listener knows it."""

    run: str
    job: str
    triggered_by: str
    dry_run: bool = False
    status: str = "QUEUED"
    reason: str | None = None
    error: str | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    tail: deque[LogLine] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    stamp: Callable[[datetime], str] = words.clock

    @classmethod
    def of(cls, run: JSON, *, stamp: Callable[[datetime], str] = words.clock) -> Self:
        """Begin from the run as the API shows it: what its steps are, none of what they did.

        The events tell the rest from the beginning. Only a step that was switched off before the
        run was born has no event of its own.
        """
        return cls(
            run=words.run_id(run["id"]),
            job=run["jobName"],
            triggered_by=run["triggeredBy"],
            dry_run=bool(run.get("dryRun")),
            queued_at=words.moment(run.get("queuedAt")),
            steps={
                step["name"]: Step.planned(step)
                for step in sorted(run["steps"], key=lambda step: step["position"])
            },
            stamp=stamp,
        )

    @property
    def is_over(self) -> bool:
        return self.status in FINAL

    @property
    def failed_step(self) -> Step | None:
        return next((step for step in self.steps.values() if step.status == "FAILED"), None)

    def seconds(self, now: datetime) -> float | None:
        since = self.started_at or self.queued_at
        return ((self.finished_at or now) - since).total_seconds() if since else None

    def hear(self, event: JSON) -> list[str]:
        """Take in one event of `runEvents`; gives what a plain listener prints of it."""
        at = _at(event["at"])
        match event["__typename"]:
            case "RunChanged":
                return self._run_changed(at, event)
            case "StepChanged":
                return self._step_changed(at, event)
            case "StepProgressed":
                step = self._step(event["step"])
                step.progress = step.progress or Progress()
                step.progress.heard(at, event["progress"])
                due = step.progress.is_due(at)
                return [self._line(at, step.name, step.progress.sentence())] if due else []
            case "LogsWritten":
                lines = [LogLine.of(line) for line in event["lines"]]
                self.tail.extend(lines)
                return [line.text(self.stamp) for line in lines]
        return []  # a kind of event that a newer API may have

    def _run_changed(self, at: datetime, event: JSON) -> list[str]:
        self.status, self.reason = event["status"], event.get("reason")
        facts = event.get("run") or {}
        if self.status == "RUNNING" and self.started_at is None:
            self.started_at = words.moment(facts.get("startedAt")) or at
        if self.is_over:
            self.finished_at = at
            self.error = _message(facts.get("error"))
        took = words.duration(self.seconds(at)) if self.is_over else ""
        status = self.status.lower()
        said = [status, took, (self.reason or "").removeprefix(f"{status}: ")]
        return [self._line(at, "run", " · ".join(part for part in said if part))]

    def _step_changed(self, at: datetime, event: JSON) -> list[str]:
        step = self._step(event["step"], event["position"])
        facts = event.get("stepRun") or {}
        was_running = step.status == "RUNNING"
        step.status, step.attempt = event["stepStatus"], event["attempt"]
        step.type = facts.get("type") or step.type
        if step.status == "RUNNING":
            if not was_running:
                step.started_at, step.finished_at, step.progress = at, None, None
            return [self._line(at, step.name, _attempt("running", step.attempt))]
        # `stepRun` is the step as it is now; while events are told again, that may be later.
        step.reason, step.error = facts.get("reason"), _message(facts.get("error"))
        step.summary = facts.get("summary") or ""
        if step.is_over:
            step.finished_at = at
        word = _attempt(step.status.lower(), step.attempt if step.status == "RETRYING" else 0)
        took = words.duration(step.seconds(at)) if step.is_over else ""
        return [self._line(at, step.name, " · ".join(p for p in (word, took, step.account()) if p))]

    def _line(self, at: datetime, who: str, what: str) -> str:
        return f"{self.stamp(at)}  {who:<7}  {what}"

    def _step(self, name: str, position: int | None = None) -> Step:
        place = len(self.steps) if position is None else position
        return self.steps.setdefault(name, Step(place, name, ""))


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _attempt(word: str, number: int) -> str:
    return f"{word} (attempt {number})" if number > 1 else word


def _message(error: JSON | None) -> str | None:
    return error["message"] if error else None
