"""Two programs that sync the same files at once: what was read earlier never comes last."""

import asyncio
import threading

from workshop import workshop

from nomaflow.in_force import catalog
from nomaflow.project.folder import Project
from nomaflow.store import jobs

JOB = '[[jobs]]\nname = "j"\n[[jobs.steps]]\nname = "a"\ntype = "sql_query"\n'
SQL = 'connector = "default"\nquery = "SELECT 1"\n'


class Slow(Project):
    """A program that is held up just after it has read its files."""

    def __init__(self, root):
        super().__init__(root)
        self.has_read = threading.Event()
        self.may_go_on = threading.Event()

    def read_jobs(self, timezone="UTC"):
        found = super().read_jobs(timezone)
        self.has_read.set()
        self.may_go_on.wait(10)
        return found


async def test_a_stale_reading_takes_no_job_away(database_url, redis_url, tmp_path):
    async with workshop(database_url, redis_url, tmp_path / "project") as shop:
        slow = Slow(shop.root)
        first = asyncio.create_task(catalog.sync(shop.db, shop.bell, slow))
        await asyncio.to_thread(slow.has_read.wait, 10)
        (shop.root / "jobs.toml").write_text(JOB + SQL)
        second = asyncio.create_task(catalog.sync(shop.db, shop.bell, shop.project))
        await asyncio.wait({second}, timeout=0.5)  # it waits for the first, or has overtaken it
        slow.may_go_on.set()
        await asyncio.gather(first, second)
        assert await jobs.names(shop.db) == ["j"]


async def test_an_edit_of_one_job_does_not_touch_the_others(database_url, redis_url, tmp_path):
    """A scheduler that serves the clock of one holds its row; an edit of another goes through."""
    async with workshop(database_url, redis_url, tmp_path / "project") as shop:
        other = (JOB + SQL).replace('"j"', '"k"')
        (shop.root / "jobs.toml").write_text(JOB + SQL + other)
        await catalog.sync(shop.db, shop.bell, shop.project)
        before = await jobs.file_jobs(shop.db)
        async with shop.db.transaction() as scheduler:
            await scheduler.execute("SELECT FROM jobs WHERE name = 'k' FOR NO KEY UPDATE")
            (shop.root / "jobs.toml").write_text(JOB + SQL.replace("1", "2") + other)
            async with asyncio.timeout(5):
                synced = await catalog.sync(shop.db, shop.bell, shop.project)
            assert synced.changed == ["j"]
        # One that only stands elsewhere in its file is the same job, found at its new place.
        (shop.root / "jobs.toml").write_text(other + JOB + SQL.replace("1", "2"))
        assert (await catalog.sync(shop.db, shop.bell, shop.project)).changed == []
        after = await jobs.file_jobs(shop.db)
        assert after["k"].revision == before["k"].revision == 1
        assert (before["k"].source_line, after["k"].source_line) == (8, 1)
