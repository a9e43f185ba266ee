"""Steps that leave, crash, never end and flood, in a real worker: each hurts itself alone."""

import asyncio

import pytest
from chains import http, job, python
from house import House
from load import percentile
from size import pick

JOBS = (
    job("leaves", python("one", "leaves"))
    + job("crashes", python("one", "crashes"))
    + job("spins", python("one", "spins", timeout_seconds=2))
    + job("floods", python("one", "floods", timeout_seconds=20))
    + job("neighbour", http("one", 0.05), http("two", 0.05))
)
ENDS = {
    "leaves": ("failed", "sys.exit"),
    "crashes": ("failed", "SIGSEGV"),
    "spins": ("failed", "timeout after 2 s"),
    "floods": ("succeeded", ""),
}
ROUNDS = pick(1, 10)


@pytest.mark.timeout(pick(110, 300))
async def test_hostile_steps_leave_their_neighbours_in_peace(home: House, figures):
    await home.declare(JOBS)
    worker = await home.start("worker")
    well = await took(home, 10)
    ends = []
    meanwhile: list[float] = []
    for _ in range(ROUNDS):
        hostile = {kind: await home.trigger(kind) for kind in ENDS}
        meanwhile += await took(home, 10)
        ends += [(kind, await home.end(run_id)) for kind, run_id in hostile.items()]
    figures(
        hostile=len(ends),
        neighbours=len(meanwhile),
        neighbour_p50_alone=f"{percentile(well, 0.5) * 1000:.0f} ms",
        beside_them=f"{percentile(meanwhile, 0.5) * 1000:.0f} ms",
    )
    for kind, end in ends:
        status, words = ENDS[kind]
        assert end["status"] == status, end["reason"]
        assert words in (end["reason"] or "")
    assert worker.alive
    assert max(meanwhile) < 5


async def took(home: House, count: int) -> list[float]:
    """Seconds of so many neighbours' runs, one after the other."""
    found = []
    for _ in range(count):
        end = await home.end(await home.trigger("neighbour"))
        assert end["status"] == "succeeded"
        found.append((end["finished_at"] - end["queued_at"]).total_seconds())
        await asyncio.sleep(0.05)
    return found
