"""What the fixtures promise to every other test."""

import asyncpg
import pytest
import redis.asyncio as redis


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_finds_its_database_and_valkey_as_new(
    turn, database_url, redis_url, pg_url
):
    for url in (database_url, pg_url):
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE public.mark (turn int)")
        await connection.close()
    client = redis.from_url(redis_url)
    assert await client.incr("mark") == 1
    await client.aclose()


async def test_two_user_databases_are_apart(new_pg_url):
    assert await new_pg_url() != await new_pg_url()
