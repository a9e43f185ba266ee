import asyncio

import pytest

from nomaflow.connectors import racing


class Course:
    """Ways that a test lets succeed or fail; what was begun, and what was thrown away."""

    def __init__(self):
        self.begun = []
        self.discarded = []
        self.told = {}

    def way(self, name):
        async def run():
            self.begun.append(name)
            self.told[name] = asyncio.get_running_loop().create_future()
            return await self.told[name]

        return run

    async def discard(self, name):
        self.discarded.append(name)

    def race(self, *names, patience=0.01):
        ways = [self.way(name) for name in names]
        return asyncio.create_task(
            racing.first(ways, self.discard, patience, (ConnectionError, TimeoutError))
        )

    async def until(self, *names):
        async with asyncio.timeout(5):
            while self.begun != list(names):
                await asyncio.sleep(0)


@pytest.fixture
def course():
    return Course()


async def test_the_next_begins_at_once_when_one_fails(course):
    race = course.race("a", "b", patience=60)
    await course.until("a")
    course.told["a"].set_exception(ConnectionRefusedError())
    await course.until("a", "b")
    course.told["b"].set_result("b")
    assert await race == "b"
    assert course.discarded == []


async def test_the_next_begins_beside_one_that_says_nothing(course):
    race = course.race("a", "b", "c")
    await course.until("a", "b", "c")
    course.told["b"].set_result("b")
    assert await race == "b"
    assert course.told["a"].cancelled()
    assert course.told["c"].cancelled()


async def test_a_second_winner_is_thrown_away(course):
    race = course.race("a", "b")
    await course.until("a", "b")
    course.told["a"].set_result("a")
    course.told["b"].set_result("b")
    won = await race
    assert [won, *course.discarded] in (["a", "b"], ["b", "a"])


async def test_when_all_fail_the_last_failure_is_told(course):
    race = course.race("a", "b")
    await course.until("a", "b")
    course.told["b"].set_exception(TimeoutError("b"))
    course.told["a"].set_exception(ConnectionRefusedError("a"))
    with pytest.raises(OSError, match=r"^[ab]$"):
        await race
    with pytest.raises(ValueError, match="no way"):
        await course.race()


async def test_another_exception_ends_the_race_and_so_does_its_caller(course):
    race = course.race("a", "b")
    await course.until("a", "b")
    course.told["a"].set_exception(RuntimeError("wrong"))
    with pytest.raises(RuntimeError, match="wrong"):
        await race
    assert course.told["b"].cancelled()
    course.begun.clear()
    race = course.race("a", "b")
    await course.until("a", "b")
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert course.told["a"].cancelled()
    assert course.told["b"].cancelled()
