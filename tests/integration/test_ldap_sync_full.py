"""A directory of 50 000 people and 2 000 groups; part of `make full`."""

import os
import re
from pathlib import Path

import directory as slapd
import pytest
from directory import GROUPS
from mirroring import USERS, Sync, counts

pytestmark = [
    pytest.mark.skipif(not os.environ.get("FULL"), reason="FULL=1 runs it: make full"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def large():
    if reason := slapd.missing_programs():
        slapd.refuse(reason)
    with slapd.running(50_000, slapd.groups(2_000)) as made:
        yield made


@pytest.fixture
async def sync(large, pg_url):
    made = Sync(large, pg_url)
    await made.db.execute(USERS)
    await made.db.execute("CREATE TABLE teams (name text PRIMARY KEY, members text[])")
    yield made
    await made.db.close()


def resident():
    """This process's memory now, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status)[1]) / 1024


async def test_50_000_people_are_mirrored_in_little_memory(sync):
    await sync.run(search_filter="(logonCount<=7000)")
    before = resident()
    assert counts(await sync.run()) == (50_000, 49_000, 0, 1000)
    assert counts(await sync.run(deletion="hard")) == (50_000, 0, 0, 50_000)
    assert resident() - before < 64
    error = await sync.refused(deletion="hard", search_filter="(logonCount<=300000)")
    assert "max_delete = 10%" in error.message
    assert await sync.db.scalar("SELECT count(*) FROM users") == 50_000


async def test_2_000_groups_are_mirrored_with_every_member(sync):
    groups = {
        "search_base": GROUPS,
        "search_filter": "(objectClass=groupOfNames)",
        "mapping": {"cn": "name", "member": "members"},
        "table": "teams",
        "key": ["name"],
    }
    assert counts(await sync.run(**groups)) == (2000, 2000, 0, 0)
    assert counts(await sync.run(**groups)) == (2000, 0, 0, 2000)
    total = await sync.db.scalar("SELECT sum(cardinality(members)) FROM teams")
    assert total == 5 * 5000 + 1995 * 3
