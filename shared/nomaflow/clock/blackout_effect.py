"""What a blackout would do before it is saved: to due times, and to the jobs that feel it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from nomaflow.clock import forecast
from nomaflow.clock.calendars import Action, Blackout
from nomaflow.clock.forecast import Clock, Closures

MOST_COUNTED = 50_000
"""Due times that are looked at for all clocks together; beyond them numbers are lower bounds."""


@dataclass(frozen=True, slots=True)
class Concerned:
    """One clock that the blackout concerns: how many of its due times, from the first to the last.

    `gap` is how long it would not fire, from the usual fire before them; None: for ever.
    """

    job: str
    schedule: str
    skipped: int
    postponed: int
    first: datetime
    last: datetime
    fires_after: datetime | None
    gap: timedelta | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class AtRisk:
    """A job that would go without a success for longer than its alert allows."""

    job: str
    stale_after_hours: float
    gap_hours: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """Everything that a blackout changes."""

    clocks: tuple[Concerned, ...] = ()
    dependants: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Jobs that are not concerned themselves, and those of the concerned that they depend on."""
    at_risk: tuple[AtRisk, ...] = ()

    @property
    def exact(self) -> bool:
        """Tell whether every due time was counted."""
        return all(clock.exact for clock in self.clocks)


def of(
    blackout: Blackout,
    clocks: Iterable[Clock],
    others: Closures,
    now: datetime,
    *,
    depends_on: Mapping[str, Sequence[str]],
    stale_after_hours: Mapping[str, float],
) -> Effect:
    """Work out what `blackout` adds to `others`, which hold no blackout of its name.

    What they close anyway is not its doing.
    """
    left = MOST_COUNTED
    concerned: list[Concerned] = []
    for clock in clocks:
        if not blackout.concerns(clock.job, clock.connectors):
            continue
        found, looked = _concerned(blackout, clock, others, now, left)
        left -= looked
        if found is not None:
            concerned.append(found)
    names = {one.job for one in concerned}
    return Effect(
        tuple(concerned), _dependants(names, depends_on), _at_risk(concerned, stale_after_hours)
    )


def _concerned(
    blackout: Blackout, clock: Clock, others: Closures, now: datetime, most: int
) -> tuple[Concerned | None, int]:
    times: list[datetime] = []
    following: datetime | None = None
    looked = 0
    begin = max(now, blackout.from_at - clock.jitter)
    for planned in forecast.fires(replace(clock, jitter=timedelta()), others, begin, now=now):
        following = planned.due_at
        looked += 1
        if following >= blackout.until or looked > most:
            break
        if blackout.from_at <= following + clock.jitter:
            times.append(following)
    if not times:
        return None, looked
    usual = (times[1] if len(times) > 1 else following or times[0]) - times[0]
    dark = replace(others, blackouts=(*others.blackouts, blackout))
    after = next(forecast.fires(clock, dark, max(times[0], now), now=now), None)
    postpones = blackout.action is Action.POSTPONE
    found = Concerned(
        job=clock.job,
        schedule=clock.name,
        skipped=0 if postpones else len(times),
        postponed=len(times) if postpones else 0,
        first=times[0],
        last=times[-1],
        fires_after=None if after is None else after.at,
        gap=None if after is None else after.at - times[0] + usual,
        exact=looked <= most,
    )
    return found, looked


def _dependants(
    names: set[str], depends_on: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Follow `depends_on` all the way: a job behind a job behind a concerned one is told too."""
    found: dict[str, tuple[str, ...]] = {}
    felt = set(names)
    while True:
        more = {
            job: tuple(sorted(set(needs) & felt))
            for job, needs in depends_on.items()
            if job not in felt and set(needs) & felt
        }
        if not more:
            return dict(sorted(found.items()))
        found |= more
        felt |= more.keys()


def _at_risk(
    concerned: Sequence[Concerned], stale_after_hours: Mapping[str, float]
) -> tuple[AtRisk, ...]:
    """A job with several clocks is as fresh as the one that is back first."""
    found: list[AtRisk] = []
    gaps_of: defaultdict[str, list[timedelta | None]] = defaultdict(list)
    for one in concerned:
        gaps_of[one.job].append(one.gap)
    for job, allowed in sorted(stale_after_hours.items()):
        gaps = gaps_of.get(job, [])
        known = [gap for gap in gaps if gap is not None]
        hours = round(min(known).total_seconds() / 3600, 2) if known else None
        if gaps and (hours is None or hours > allowed):
            found.append(AtRisk(job, allowed, hours))
    return tuple(found)
