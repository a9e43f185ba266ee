"""ldap_sync beside `ldapsearch` with the same pages, plain ldap3, and a sync written by hand."""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

import directory as slapd  # noqa: E402  the tests' own OpenLDAP
from step_context import RealContext  # noqa: E402

from nomaflow.connectors import spec  # noqa: E402
from nomaflow.connectors.ldap import connector as ldap  # noqa: E402
from nomaflow.connectors.ldap.ber import Wanted  # noqa: E402
from nomaflow.connectors.ldap.connector import Search  # noqa: E402
from nomaflow.embedded.servers import EmbeddedServers  # noqa: E402
from nomaflow.steps.ldap_sync import LdapSync  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "5"))
USERS = int(os.environ.get("USERS", "50000"))
NAMES = "uid cn sn givenName mail telephoneNumber employeeNumber departmentNumber title l"
ATTRIBUTES = NAMES.split()
FILTER = "(objectClass=person)"
TABLE = "CREATE TABLE users (uid text PRIMARY KEY, {})".format(
    ", ".join(f"{name.lower()} text" for name in ATTRIBUTES[1:])
)

ONLY_READ = """
import asyncio, re, sys
from nomaflow.connectors import ldap
from nomaflow.connectors.ldap_ber import Wanted
from nomaflow.connectors.spec import LdapConnectorSpec

async def main(url, who, password, base, *names):
    spec = LdapConnectorSpec(kind="ldap", url=url, bind_dn=who, bind_password=password)
    session = await ldap.open(ldap.settings(spec))
    search = ldap.Search(base, "(objectClass=person)", "subtree", names)
    async for _ in session.search(search, Wanted({name: at for at, name in enumerate(names)})):
        pass
    await session.close()
    # Not ru_maxrss, which remembers the parent's.
    print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024)

asyncio.run(main(*sys.argv[1:]))
"""


async def main() -> None:
    if reason := slapd.missing_programs():
        print(reason)
        return
    print(f"{'name':34} {'ours':>9} {'floor':>9} {'ratio':>6} {'target':>6}")
    home = Path(tempfile.mkdtemp(prefix="nomaflow-bench-", dir="/tmp"))
    servers = EmbeddedServers(home)
    await servers.start()
    try:
        with slapd.running(USERS, slapd.groups(2_000)) as corp:
            await reading(corp)
            await syncing(corp, servers.database_url)
        memory()
    finally:
        await servers.stop()
        shutil.rmtree(home, ignore_errors=True)


async def reading(corp: slapd.Directory) -> None:
    tls = {"url": corp.tls_url, "ca_file": corp.ca_file}
    for name, table, url, wanted in (
        ("read, entries/s", {}, corp.url, 0.35),
        ("read over ldaps, entries/s", tls, corp.tls_url, 0.35),
    ):
        people = Search(slapd.PEOPLE, FILTER, "subtree", tuple(ATTRIBUTES))
        await rates(
            name,
            wanted,
            USERS,
            lambda table=table, people=people: read(corp.connector(**table), people),
            lambda url=url: ldapsearch(corp, url, slapd.PEOPLE, FILTER, ATTRIBUTES),
        )
    teams = Search(slapd.GROUPS, "(objectClass=groupOfNames)", "subtree", ("cn", "member"))
    await rates(
        "read 2 000 groups, entries/s",
        0.35,
        2_000,
        lambda: read(corp.connector(), teams),
        lambda: ldapsearch(corp, corp.url, slapd.GROUPS, teams.filter, ["cn", "member"]),
    )
    peer = statistics.median([await timed(lambda: plain_ldap3(corp)) for _ in range(2)])
    people = Search(slapd.PEOPLE, FILTER, "subtree", tuple(ATTRIBUTES))
    ours = statistics.median(
        [await timed(lambda: read(corp.connector(), people)) for _ in range(3)]
    )
    line("read, ours against plain ldap3", USERS / ours, USERS / peer, peer / ours, 5)


async def read(table: dict[str, object], search: Search) -> None:
    session = await ldap.open(ldap.settings(spec.parse(table)))
    count = 0
    wanted = Wanted({name: at for at, name in enumerate(search.attributes)})
    async for chunk in session.search(search, wanted):
        count += len(chunk.entries)
    await session.close()
    assert count in {USERS, 2_000}


async def ldapsearch(
    corp: slapd.Directory, url: str, base: str, wanted: str, attributes: list[str]
) -> None:
    command = [
        "ldapsearch",
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-E",
        "pr=1000/noprompt",
        "-H",
        url,
    ]
    command += ["-D", slapd.READER, "-w", slapd.READER_PASSWORD, "-b", base, wanted, *attributes]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "LDAPTLS_CACERT": corp.ca_file},
    )
    assert await process.wait() == 0


async def plain_ldap3(corp: slapd.Directory) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import ldap3  # noqa: PLC0415  the peer

    server = ldap3.Server("127.0.0.1", corp.port, get_info=ldap3.NONE)
    with ldap3.Connection(server, slapd.READER, slapd.READER_PASSWORD) as connection:
        found = connection.extend.standard.paged_search(
            slapd.PEOPLE, FILTER, attributes=ATTRIBUTES, paged_size=1000, generator=True
        )
        assert sum(1 for _ in found) == USERS


async def syncing(corp: slapd.Directory, url: str) -> None:
    """The whole step; by hand: ldapsearch, then COPY and INSERT ON CONFLICT of ready-made rows."""
    db = await asyncpg.connect(url)
    connectors = {
        "directory": spec.parse(corp.connector()),
        "default": spec.parse({"kind": "sql", "url": url}),
    }
    step = LdapSync.model_validate(
        {
            "connector": "directory",
            "search_base": slapd.PEOPLE,
            "search_filter": FILTER,
            "mapping": {name: name.lower() for name in ATTRIBUTES},
            "table": "users",
            "schema": "public",
            "key": ["uid"],
        }
    )
    rows = [
        tuple(f"u{n:05}" if at == 0 else f"value {at} of {n}" for at in range(len(ATTRIBUTES)))
        for n in range(USERS)
    ]

    async def fresh() -> None:
        await db.execute(
            f"DROP TABLE IF EXISTS public.users; {TABLE.replace('users', 'public.users')}"
        )

    async def by_hand() -> None:
        await ldapsearch(corp, corp.url, slapd.PEOPLE, FILTER, ATTRIBUTES)
        async with db.transaction():
            await db.execute(
                f"CREATE TEMP TABLE hand_{time.monotonic_ns()} (LIKE public.users) ON COMMIT DROP"
            )
            name = await db.fetchval(
                "SELECT relname FROM pg_class WHERE relname LIKE 'hand_%' ORDER BY oid DESC LIMIT 1"
            )
            await db.copy_records_to_table(name, schema_name="pg_temp", records=rows)
            names = [column.lower() for column in ATTRIBUTES[1:]]
            await db.execute(
                f"INSERT INTO public.users SELECT * FROM {name} ON CONFLICT (uid) DO UPDATE SET "
                + ", ".join(f"{n} = excluded.{n}" for n in names)
            )

    async def ours() -> None:
        result = await RealContext(connectors).run(step)
        assert result.output["entries"] == USERS

    await compare("sync into an empty table, s", ours, by_hand, fresh)
    await compare("sync again, nothing changed, s", ours, by_hand, None)
    await db.close()


async def compare(
    name: str,
    ours: Callable[[], Awaitable[None]],
    floor: Callable[[], Awaitable[None]],
    prepare: Callable[[], Awaitable[None]] | None,
) -> None:
    """Both in turn on the same table; the ratio is one of times."""
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(ROUNDS):
        for label, deed in (("floor", floor), ("ours", ours)):
            if prepare is not None:
                await prepare()
            elif label == "ours":
                await deed()  # the table then equals the directory
            times[label].append(await timed(deed))
    mine, base = (statistics.median(times[label]) for label in ("ours", "floor"))
    print(f"{name:34} {mine:9.2f} {base:9.2f} {mine / base:6.2f} {'-':>6}", flush=True)


async def rates(
    name: str,
    wanted: float,
    count: int,
    ours: Callable[[], Awaitable[None]],
    floor: Callable[[], Awaitable[None]],
) -> None:
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(ROUNDS):
        for label, deed in (("floor", floor), ("ours", ours)):
            times[label].append(await timed(deed))
    mine, base = (count / statistics.median(times[label]) for label in ("ours", "floor"))
    line(name, mine, base, mine / base, wanted)


def line(name: str, ours: float, floor: float, ratio: float, wanted: float) -> None:
    print(f"{name:34} {ours:9.0f} {floor:9.0f} {ratio:6.2f} {wanted:6}", flush=True)


async def timed(deed: Callable[[], Awaitable[None]]) -> float:
    started = time.monotonic()
    await deed()
    return time.monotonic() - started


def memory() -> None:
    """A process of its own that only reads, and what ten times the entries cost it."""
    grown = []
    for users in (USERS // 10, USERS):
        with slapd.running(users) as corp:
            facts = [corp.url, slapd.READER, slapd.READER_PASSWORD, slapd.PEOPLE, *ATTRIBUTES]
            said = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", ONLY_READ, *facts],
                capture_output=True,
                check=True,
            )
            grown.append(float(said.stdout))
    name = "RSS of a reader, MB; a tenth"
    print(f"{name:34} {grown[1]:9.0f} {grown[0]:9.0f} {grown[1] / grown[0]:6.2f} {64:>3} MB")


if __name__ == "__main__":
    asyncio.run(main())
