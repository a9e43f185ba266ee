"""Redis is killed, flushed, paused, frozen, filled up and restarted empty under load."""

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from dataclasses import dataclass, field

import httpx
import load
import pytest
from chains import http, job, sql
from house import House
from size import dice, pick

JOBS = job("quick", http("one", 0.02), sql("two", "SELECT 1"), http("three", 0.02))
EVERY = 0.2
AWAY = pick(1.5, 20.0)
BETWEEN = pick(1.2, 5.0)


@dataclass
class Client:
    """Starts runs over HTTP, as an orchestrator would, and keeps what each request took."""

    http: httpx.AsyncClient
    took: list[float] = field(default_factory=list)
    accepted: dict[str, float] = field(default_factory=dict)

    async def fire(self) -> None:
        began, wall = time.monotonic(), time.time()
        response = await self.http.post("/admin/jobs/quick/run")
        self.took.append(time.monotonic() - began)
        assert response.status_code == 202, response.text
        self.accepted[response.json()["run_id"]] = wall

    async def keep_firing(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self.fire())
                await asyncio.sleep(EVERY)


@contextlib.asynccontextmanager
async def killed(valkey):
    """Killed, and started on what its file kept."""
    await valkey.end(signal.SIGKILL)
    yield
    await valkey.start()


@contextlib.asynccontextmanager
async def killed_and_empty(valkey):
    await valkey.end(signal.SIGKILL)
    valkey.forget()
    yield
    await valkey.start()


@contextlib.asynccontextmanager
async def flushed(valkey):
    await valkey.flush()
    yield
    await valkey.flush()


@contextlib.asynccontextmanager
async def paused(valkey):
    await valkey.pause(AWAY)
    yield


@contextlib.asynccontextmanager
async def frozen(valkey):
    with valkey.frozen():
        yield


@contextlib.asynccontextmanager
async def full(valkey):
    async with valkey.full():
        yield


FAULTS = (killed, flushed, paused, frozen, full, killed_and_empty)


@pytest.mark.timeout(pick(110, 400))
async def test_redis_goes_in_six_ways(home: House, figures):
    token = secrets.token_hex(16)
    port = free_port()
    await home.declare(JOBS)
    await home.start("api", NOMAFLOW_ADMIN_TOKEN=token, NOMAFLOW_PORT=str(port))
    workers = await home.workers(2)
    base, headers = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"}
    faults = list(FAULTS)
    dice("redis").shuffle(faults)
    spans: list[tuple[float, float]] = []
    async with httpx.AsyncClient(
        base_url=base, headers=headers, trust_env=False, timeout=30
    ) as http:
        client, stop = Client(http), asyncio.Event()
        firing = asyncio.create_task(client.keep_firing(stop))
        await asyncio.sleep(BETWEEN)
        for fault in faults:
            began = time.time()
            async with fault(home.valkey):
                await asyncio.sleep(AWAY)
            spans.append((began, time.time()))
            await asyncio.sleep(BETWEEN)
        stop.set()
        await firing
    await home.settled(30)

    waits = {
        run: at[0] - client.accepted[run]
        for (run, step), at in home.judge.began().items()
        if step == "one"
    }
    during = [w for run, w in waits.items() if within(client.accepted[run], spans)]
    after = [w for run, w in waits.items() if just_after(client.accepted[run], spans)]
    well = [w for run, w in waits.items() if client.accepted[run] < spans[0][0]]
    twice = [key for key, at in home.judge.began().items() if len(at) != 1]
    ends = await home.db.fetch("SELECT status, interruptions FROM runs")
    figures(
        runs=len(ends),
        faults=len(spans),
        away=f"{AWAY:g} s each",
        lost=len(client.accepted) - len(ends),
        twice=len(twice),
        longest_request=f"{max(client.took):.2f} s (at most 1 s)",
        first_step_p50_well=ms(load.percentile(well, 0.5)),
        away_p99=ms(load.percentile(during, 0.99)),
        back_max=f"{ms(max(after))} (at most 2 s more)",
    )
    assert len(ends) == len(client.accepted) == len(waits)
    assert twice == []
    assert {(row["status"], row["interruptions"]) for row in ends} == {("succeeded", 0)}
    assert max(client.took) < 1
    assert max(after) - load.percentile(well, 0.5) < 2
    assert all(worker.alive for worker in workers)


def within(at: float, spans: list[tuple[float, float]]) -> bool:
    return any(began <= at < ended for began, ended in spans)


def just_after(at: float, spans: list[tuple[float, float]]) -> bool:
    return any(ended <= at < ended + BETWEEN for _, ended in spans)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
