"""Schedulers die at random and clocks are wrong: every due time is fired once, when it is due."""

import asyncio
import os
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
