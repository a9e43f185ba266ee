"""A worker is killed while it reads a directory: another reads again, nothing was changed."""

import asyncio

from house import House
from ldap_stub import Search, cookie, done, entry, serving

PEOPLE = 300
JOB = """
[[jobs]]
name = "mirror"
[[jobs.steps]]
name = "people"
type = "ldap_sync"
server = "URL"
search_base = "dc=corp"
mapping = { uid = "id", cn = "name" }
table = "people"
key = ["id"]
deletion = "hard"
page_size = 100
"""
TABLES = (
    "CREATE TABLE public.people (id text PRIMARY KEY, name text NOT NULL)",
    "INSERT INTO public.people VALUES ('left', 'who left')",
    "INSERT INTO public.people SELECT 'u' || n, 'old' FROM generate_series(0, 99) AS n",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO nomaflow_jobs",
)
ROWS = "SELECT string_agg(id || name, ',' ORDER BY id) FROM public.people"


async def test_killed_in_the_middle_of_a_directory(home: House, figures):
    home.settings["NOMAFLOW_LEASE_SECONDS"] = "3"
    in_the_middle = asyncio.Event()

    def answer(search: Search) -> list:
        if search.base == "":
            return [(done(50),)]  # no schema for us
        first = int(search.cookie or b"0")
        if first == 200 and not in_the_middle.is_set():
            in_the_middle.set()
            return [60]  # silent; the second reader is served
        people = range(first, first + 100)
        found = [(entry(f"uid=u{n},dc=corp", uid=[f"u{n}"], cn=["new"]),) for n in people]
        more = str(first + 100).encode() if first + 100 < PEOPLE else b""
        return [*found, (done(), cookie(more))]

    for statement in TABLES:
        await home.db.execute(statement)
    before = await home.db.fetchval(ROWS)
    async with serving(search=answer) as stub:
        await home.declare(JOB.replace("URL", stub.url))
        await home.start("worker")
        run_id = await home.trigger("mirror")
        await asyncio.wait_for(in_the_middle.wait(), 30)
        victim = await home.owner(run_id)
        await victim.kill()
        assert await home.db.fetchval(ROWS) == before
        home.begin("worker")
        run = await home.end(run_id)
        asked = [search.cookie for search in stub.searches if search.base]

    output = await home.db.fetchval("SELECT output FROM step_runs WHERE run_id = $1", run_id)
    assert (run["status"], run["interruptions"]) == ("succeeded", 1)
    assert asked == [b"", b"100", b"200"] * 2
    assert [output[k] for k in ("inserted", "updated", "deleted")] == [200, 100, 1]
    assert await home.db.fetchval("SELECT count(*) FROM public.people") == PEOPLE
    figures(read_again_from="the start", rows=PEOPLE)
