"""What the wires alone allow: the durable writes and the hops of a run, with nothing around them.

Two commits (the run is born, the run is over with its steps), a doorbell and five words to
listeners, in one process and over one connection to each server.
"""

import statistics
import time
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import redis.asyncio

from nomaflow.embedded.servers import EmbeddedServers

BATCH = 200
TABLES = """
DROP TABLE IF EXISTS floor_runs, floor_steps;
CREATE TABLE floor_runs (
  id uuid PRIMARY KEY, job text, status text, at timestamptz, done timestamptz);
CREATE TABLE floor_steps (
  run uuid, position int, status text, output jsonb, at timestamptz, PRIMARY KEY (run, position))"""
BORN = "INSERT INTO floor_runs SELECT id, 'j', 'queued', now() FROM unnest($1::uuid[]) AS r (id)"
OVER = """
WITH steps AS (
  INSERT INTO floor_steps SELECT id, n, 'succeeded', '{}', now()
  FROM unnest($1::uuid[]) AS r (id), generate_series(0, 2) n
)
UPDATE floor_runs SET status = 'succeeded', done = now() WHERE id = ANY ($1::uuid[])"""
POP = """
local ids = redis.call('zrange', KEYS[1], 0, ARGV[1] - 1)
if #ids > 0 then redis.call('zrem', KEYS[1], unpack(ids)) end
return ids"""


@dataclass(frozen=True, slots=True)
class Floor:
    """One after the other: ms to the first step and in all; in batches: runs a minute."""

    first: float
    whole: float
    a_minute: float


class _Wires:
    def __init__(self, pg: asyncpg.Connection, client: redis.asyncio.Redis) -> None:
        self._pg, self._redis = pg, client
        self._pop = client.register_script(POP)

    async def runs(self, count: int) -> tuple[float, float]:
        """Take so many runs through every stage together."""
        began = time.perf_counter()
        ids = [uuid4() for _ in range(count)]
        await self._pg.execute(BORN, ids)
        pipe = self._redis.pipeline()
        for run_id in ids:
            pipe.set(f"job:{run_id}", b"{}", px=60_000).zadd("queue", {str(run_id): 1})
        await pipe.publish("work", "").execute()
        await self._pop(["queue"], [count])
        first = time.perf_counter()
        pipe = self._redis.pipeline(transaction=False)
        for run_id in ids:
            for _ in range(5):
                pipe.publish("news", str(run_id))
            pipe.delete(f"job:{run_id}")
        await self._pg.execute(OVER, ids)
        await pipe.execute()
        return (first - began) * 1000, (time.perf_counter() - began) * 1000


async def measure(servers: EmbeddedServers, rounds: int) -> Floor:
    pg = await asyncpg.connect(servers.database_url)
    client = redis.asyncio.from_url(servers.redis_url)
    try:
        await pg.execute(TABLES)
        wires = _Wires(pg, client)
        await wires.runs(1)
        singly = [await wires.runs(1) for _ in range(rounds)]
        together = [(await wires.runs(BATCH))[1] for _ in range(20)]
        return Floor(
            statistics.median(first for first, _ in singly),
            statistics.median(whole for _, whole in singly),
            60_000 * BATCH / statistics.median(together),
        )
    finally:
        await client.aclose()
        await pg.close()
