"""Schedulers die at random and clocks are wrong: every due time is fired once, when it is due."""

import asyncio
import os
import signal
from datetime import timedelta

import pytest
from chains import job, sql
from house import House
from programs import FAKETIME, skewed
from size import dice, pick

JOBS = job("every-second", sql("one", "SELECT 1"), schedule="* * * * * *")
KILLING_SECONDS = pick(9, 600)
SKEWED_SECONDS = pick(5, 60)
TEN_MINUTES = 600
PUNCTUAL_SECONDS = 1.5
"""A scheduler that is well fires within this; the machine may be busy."""


async def slots(home: House) -> list:
    return await home.db.fetch(
        """SELECT due_at, outcome, extract(epoch FROM at - due_at)::float8 AS late
           FROM slots ORDER BY due_at"""
    )


async def until_fired(home: House, count: int) -> None:
    async with asyncio.timeout(60):
        while await home.db.fetchval("SELECT count(*) FROM slots") < count:
            await asyncio.sleep(0.05)


def every_second(found: list) -> list:
    """The due times that there must be, by arithmetic alone."""
    first, last = found[0]["due_at"], found[-1]["due_at"]
    return [first + timedelta(seconds=n) for n in range(int((last - first).total_seconds()) + 1)]


@pytest.mark.timeout(pick(110, 900))
async def test_three_schedulers_are_killed_at_random(home: House, figures):
    await home.declare(JOBS)
    chance = dice("schedulers")
    schedulers = [await home.start("scheduler") for _ in range(3)]
    await until_fired(home, 1)
    loop = asyncio.get_running_loop()
    until, kills = loop.time() + KILLING_SECONDS, 0
    while loop.time() < until:
        await asyncio.sleep(chance.uniform(0.5, 3))
        victim = chance.choice(schedulers)
        await victim.kill()
        kills += 1
        schedulers[schedulers.index(victim)] = home.begin("scheduler")
    found = await slots(home)
    await until_fired(home, len(found) + 3)  # somebody goes on
    for scheduler in schedulers:
        await scheduler.kill()
    found = await slots(home)
    await home.start("worker")
    await home.settled(60)

    fired = [slot["due_at"] for slot in found]
    runs = await home.db.fetch("SELECT scheduled_for FROM runs ORDER BY 1")
    expected = every_second(found)
    figures(
        seconds=len(expected),
        kills=kills,
        due_times_missing=len(set(expected) - set(fired)),
        due_times_twice=len(runs) - len({row["scheduled_for"] for row in runs}),
        latest=f"{max(slot['late'] for slot in found):.1f} s",
    )
    assert fired == expected
    assert {slot["outcome"] for slot in found} == {"fired"}
    assert [row["scheduled_for"] for row in runs] == expected


CLOCKS = 20
CROWD = "".join(
    job(f"crowd-{n}", sql("one", "SELECT 1"), schedule="* * * * * *", overlap="allow")
    for n in range(CLOCKS)
)
FREEZES = pick(2, 20)
TAKEN_OVER_SECONDS = 15
"""A frozen scheduler may hold what it has prepared, and its lock; both run out."""


@pytest.mark.timeout(pick(110, 900))
async def test_the_active_scheduler_is_frozen_in_the_middle(home: House, figures):
    await home.declare(CROWD)
    schedulers = {f"-{one.pid}-": one for one in [await home.start("scheduler") for _ in range(2)]}
    await until_fired(home, CLOCKS)
    chance = dice("frozen")

    async def active() -> str:
        return await home.db.fetchval(
            """SELECT name FROM processes WHERE kind = 'scheduler' AND state = 'active'
               ORDER BY seen_at DESC LIMIT 1"""
        )

    gaps = []
    for _ in range(FREEZES):
        await asyncio.sleep(chance.uniform(0.5, 1.5))  # just before, at, or after a second
        name = await active()
        frozen = next(one for mark, one in schedulers.items() if mark in name)
        frozen.send(signal.SIGSTOP)
        since = asyncio.get_running_loop().time()
        before = await home.db.fetchval("SELECT max(due_at) FROM slots")
        async with asyncio.timeout(60):
            while (
                await home.db.fetchval(
                    "SELECT count(*) FROM slots WHERE due_at > $1", before + timedelta(seconds=2)
                )
                < CLOCKS
            ):
                await asyncio.sleep(0.05)
        gaps.append(asyncio.get_running_loop().time() - since)
        frozen.send(signal.SIGCONT)
        await asyncio.sleep(4)  # it finds out that it is not the active one any more
    for scheduler in schedulers.values():
        await scheduler.kill()

    rows = await home.db.fetch(
        """SELECT schedule_id, array_agg(due_at ORDER BY due_at) AS due FROM slots GROUP BY 1"""
    )
    runs = await home.db.fetchval("SELECT count(*) FROM runs")
    await home.start("worker")
    await home.settled(90)
    figures(freezes=FREEZES, longest=f"{max(gaps):.1f} s", due_times=runs)
    assert len(rows) == CLOCKS
    for row in rows:
        first, last = row["due"][0], row["due"][-1]
        count = int((last - first).total_seconds()) + 1
        assert row["due"] == [first + timedelta(seconds=n) for n in range(count)]
    assert runs == sum(len(row["due"]) for row in rows)
    assert max(gaps) < TAKEN_OVER_SECONDS


@pytest.mark.skipif(
    not FAKETIME and not os.environ.get("CI"), reason="needs libfaketime: apt install faketime"
)
@pytest.mark.timeout(pick(110, 300))
@pytest.mark.parametrize("seconds", [TEN_MINUTES, -TEN_MINUTES], ids=["ahead", "behind"])
async def test_one_clock_is_off_by_ten_minutes(home: House, figures, seconds):
    assert FAKETIME, "libfaketime is missing: apt install faketime"
    wrong = skewed(seconds)
    # The wrong one comes first: it reads the files, sets the clocks and is the active one.
    off = await home.start("scheduler", **wrong)
    await home.declare(JOBS)
    await home.start("worker", **skewed(-seconds))
    await until_fired(home, SKEWED_SECONDS // 2)
    await home.start("scheduler")
    await off.kill()
    await until_fired(home, SKEWED_SECONDS)
    for program in home.programs:
        if program.kind == "scheduler" and program.alive:
            await program.kill()
    await home.settled(30)

    found = await slots(home)
    runs = await home.db.fetch(
        """SELECT scheduled_for, extract(epoch FROM started_at - queued_at)::float8 AS wait
           FROM runs ORDER BY 1"""
    )
    lates = [slot["late"] for slot in found]
    figures(
        off=f"{seconds:+d} s",
        seconds=len(found),
        earliest=f"{min(lates) * 1000:+.0f} ms",
        p50=f"{sorted(lates)[len(lates) // 2] * 1000:+.0f} ms",
        twice=len(runs) - len({row["scheduled_for"] for row in runs}),
    )
    assert [slot["due_at"] for slot in found] == every_second(found)
    assert {slot["outcome"] for slot in found} == {"fired"}
    assert min(lates) >= 0
    assert sorted(lates)[len(lates) // 2] < PUNCTUAL_SECONDS
    assert len(runs) == len(found)
    assert max(row["wait"] for row in runs) < 30
