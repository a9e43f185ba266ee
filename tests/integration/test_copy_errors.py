"""A value that a target will not have is told with its column and its row, in every pair."""

import re

import pytest
from copying import Pair
from test_copy_pairs import DIALECTS

from nomaflow.errors import StepError

EVERY_PAIR = [(a, b) for a in DIALECTS for b in DIALECTS]
KEY = 4711
WHOLE = {"postgresql": "bigint", "mysql": "bigint", "sqlite": "BIGINT"}
TEXT = {"postgresql": "text", "mysql": "longtext", "sqlite": "TEXT"}
EXACT = {"postgresql": "numeric(12, 2)", "mysql": "decimal(12, 2)", "sqlite": "DECIMAL(12, 2)"}
# Name: the source's types, a good and a bad value, the target's type, who takes the bad one.
CASES = {
    "smallint": (WHOLE, 1, 99999, "smallint", {"sqlite"}),
    "int": (WHOLE, 1, 3_000_000_000, "int", {"sqlite"}),
    "too long": (TEXT, "a", "abcdef", "varchar(3)", {"sqlite"}),
    "overflow": (EXACT, "1.25", "12345.67", "numeric(5, 2)", {"sqlite"}),
    "no number": (TEXT, "1", "12x", "int", set()),
    "large in a text": (TEXT, "1", "99999", "smallint", {"sqlite"}),
    "no date": (TEXT, "2024-01-01", "2024-02-30", "date", {"sqlite"}),
    "nul": (TEXT, "a", "a\0b", "text", {"mysql", "sqlite"}),
    "null": (WHOLE, 1, None, "bigint NOT NULL", set()),
    "check": (WHOLE, 1, -5, "bigint CHECK (v > 0)", set()),
    "named check": (WHOLE, 1, -5, "bigint, CONSTRAINT positive CHECK (v > 0)", set()),
}


@pytest.fixture
async def pairs(new_pg_url, tmp_path, request):
    made = []

    async def url(kind):
        match kind:
            case "postgresql":
                return await new_pg_url()
            case "mysql":
                return await request.getfixturevalue("new_mariadb_url")()
            case _:
                return f"sqlite:///{tmp_path}/{len(made)}{kind}{len(list(tmp_path.iterdir()))}.db"

    async def make(source, target, *, one=False):
        first = await url(source)
        made.append(Pair(first, first if one else await url(target)))
        return made[-1]

    yield make
    for pair in made:
        await pair.close()


@pytest.fixture
def mariadb(new_mariadb_url):
    return new_mariadb_url


async def arrange(pair, name):
    """Three rows, of which the second one is wrong, and a target."""
    types, good, bad, target, _ = CASES[name]
    source = types[pair.ops.dialect]
    await pair.reports.execute("DROP VIEW IF EXISTS seen")
    await pair.ops.execute("DROP TABLE IF EXISTS s")
    await pair.reports.execute("DROP TABLE IF EXISTS t")
    await pair.ops.execute(f"CREATE TABLE s (id int PRIMARY KEY, v {source})")
    await pair.reports.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {target})")
    for number, value in ((1, good), (KEY, bad), (KEY + 1, good)):
        given = ":v" if pair.ops.dialect != "postgresql" else f"CAST(CAST(:v AS text) AS {source})"
        value = value if value is None or given == ":v" else str(value)  # noqa: PLW2901
        await pair.ops.execute(f"INSERT INTO s VALUES (:id, {given})", {"id": number, "v": value})


def is_told(message, bad):
    """The column, and the row by its key or by the value."""
    row = str(KEY) in message or (bad is not None and (str(bad) in message or repr(bad) in message))
    return re.search(r"\bv\b", message) is not None and row


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("source", "target"), EVERY_PAIR)
async def test_the_column_and_the_row_are_told(mariadb, pairs, source, target):
    surprises = []
    for one in (False, True) if source == target == "postgresql" else (False,):
        pair = await pairs(source, target, one=one)
        for name, (_, _, bad, _, takers) in CASES.items():
            if name == "nul" and source == "postgresql":
                continue  # it has no such text
            for mode in ("append", "overwrite", "upsert", "in_place"):
                if mode == "in_place" and target != "postgresql":
                    continue
                await arrange(pair, name)
                if mode == "in_place":
                    await pair.reports.execute("CREATE VIEW seen AS SELECT * FROM t")
                wanted = "overwrite" if mode == "in_place" else mode
                try:
                    await pair.copy("s", "t", mode=wanted)
                    found = None if target in takers else "it was taken"
                except StepError as error:
                    found = None if is_told(error.message, bad) else error.message
                left = await pair.reports.scalar("SELECT count(*) AS n FROM t")
                if found is not None or left != (3 if target in takers else 0):
                    surprises.append((one, name, mode, left, found))
    assert surprises == [], "\n" + "\n".join(map(str, surprises))
