import pytest
from copying import Pair

from nomaflow.errors import StepError

ORDERS = """
    CREATE TABLE orders (
        id bigint PRIMARY KEY, amount numeric(12, 2) NOT NULL, at timestamptz, note text,
        doc jsonb, raw bytea, tags text[]
    );
    INSERT INTO orders SELECT g, g * 1.25, '2024-01-01Z'::timestamptz + g * interval '1 min',
        NULLIF('note ' || g % 7, 'note 3'), jsonb_build_object('g', g), decode(md5(g::text), 'hex'),
        ARRAY['a', NULL, g::text]
    FROM generate_series(1, 5000) g;
    ANALYZE orders
"""


@pytest.fixture
async def pair(new_pg_url):
    made = Pair(await new_pg_url(), await new_pg_url())
    yield made
    await made.close()


async def test_overwrite_makes_a_missing_target_in_the_sources_likeness(pair):
    await pair.script("ops", ORDERS)
    result = await pair.copy("orders", {"schema": "reporting", "table": "orders"})
    assert await pair.sum_of("ops", "orders") == await pair.sum_of("reports", "reporting.orders")
    assert {key: result.output[key] for key in ("source_rows", "target_rows")} == {
        "source_rows": 5000,
        "target_rows": 5000,
    }
    assert result.output["elapsed_ms"] >= 0
    assert (result.rows_affected, result.summary) == (5000, "5 000 rows copied")
    columns = """SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || attnotnull,
        ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = :t::regclass AND attnum > 0"""
    assert await pair.ops.scalar(columns, {"t": "orders"}) == await pair.reports.scalar(
        columns, {"t": "reporting.orders"}
    )
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'reporting'"
    assert "(id)" in await pair.reports.scalar(indexes)


async def test_overwrite_again_changes_only_what_differs(pair):
    await pair.script("ops", ORDERS)
    await pair.copy("orders", "orders")
    await pair.script(
        "ops",
        "UPDATE orders SET amount = 0 WHERE id <= 10; DELETE FROM orders WHERE id > 4990;"
        "INSERT INTO orders (id, amount) VALUES (9001, 1), (9002, 2)",
    )
    result = await pair.copy("orders", "orders")
    changed = {key: result.output[key] for key in ("inserted", "updated", "deleted", "path")}
    assert changed == {"inserted": 2, "updated": 10, "deleted": 10, "path": "in_place"}
    assert await pair.sum_of("ops", "orders") == await pair.sum_of("reports", "orders")
    assert result.summary == "4 992 rows copied · 2 new · 10 changed · 10 gone"


async def test_append_adds_rows_each_time(pair):
    await pair.script("ops", ORDERS)
    await pair.copy({"query": "SELECT * FROM orders LIMIT 0"}, "orders")
    await pair.script("reports", "CREATE TABLE history AS SELECT * FROM orders")
    for expected in (5000, 10_000):
        result = await pair.copy("orders", "history", mode="append")
        assert result.output["target_rows"] == 5000
        assert await pair.reports.scalar("SELECT count(*) FROM history") == expected
    with pytest.raises(StepError, match=r"public\.nowhere"):
        await pair.copy("orders", "nowhere", mode="append")


async def test_upsert_inserts_and_updates_by_primary_key(pair):
    await pair.script("ops", ORDERS)
    await pair.copy({"table": "orders", "where": "id <= 1000"}, "orders")
    await pair.script("reports", "INSERT INTO orders (id, amount) VALUES (99999, 9)")
    await pair.script("ops", "UPDATE orders SET note = 'new' WHERE id <= 3")
    first = await pair.copy({"table": "orders", "where": "id <= 1500"}, "orders", mode="upsert")
    assert (first.output["inserted"], first.output["updated"]) == (500, 3)
    again = await pair.copy({"table": "orders", "where": "id <= 1500"}, "orders", mode="upsert")
    assert (again.output["inserted"], again.output["updated"]) == (0, 0)
    assert await pair.reports.scalar("SELECT count(*) FROM orders") == 1501
    assert again.output["target_rows"] == 1500


async def test_upsert_needs_a_key_that_names_each_row_once(pair):
    await pair.script("ops", "CREATE TABLE s (a int, b text); INSERT INTO s VALUES (1,'x'),(1,'y')")
    await pair.script("reports", "CREATE TABLE bare (a int, b text)")
    with pytest.raises(StepError, match="primary key"):
        await pair.copy("s", "bare", mode="upsert")
    await pair.script("reports", "CREATE TABLE s (a serial PRIMARY KEY, b text)")
    with pytest.raises(StepError, match="more than once: a = 1"):
        await pair.copy("s", "s", mode="upsert")
    with pytest.raises(StepError, match="'a' is not copied"):
        await pair.copy("s", "s", mode="upsert", columns={"b": "b"})
    assert await pair.reports.scalar("SELECT count(*) FROM s") == 0
    await pair.script("reports", "CREATE TABLE keys (a int PRIMARY KEY)")
    await pair.copy({"query": "SELECT DISTINCT a FROM s"}, "keys", mode="upsert")
    again = await pair.copy({"query": "SELECT DISTINCT a FROM s"}, "keys", mode="upsert")
    assert again.output["inserted"] == 0


async def test_a_query_a_condition_and_a_mapping_choose_what_is_copied(pair):
    await pair.script("ops", ORDERS)
    await pair.copy(
        {
            "query": "SELECT id, amount AS price -- the rest stays\nFROM orders WHERE id < :top;",
            "params": {"top": "11"},
        },
        "prices",
    )
    assert await pair.reports.scalar("SELECT sum(price) FROM prices") == 68.75
    nasty = "x' OR true); DROP TABLE orders; --"
    await pair.copy(
        {
            "table": "orders",
            "where": "at >= :since AND (note = :note OR id = ANY(:ids)) AND :x::text IS NULL",
            "params": {"since": "2024-01-01T00:02:00Z", "note": nasty, "ids": [1, 5, 6], "x": None},
        },
        "prices",
        columns={"id": "id", "price": "amount"},
    )
    assert [row["id"] for row in await pair.reports.all("SELECT id FROM prices ORDER BY 1")] == [
        5,
        6,
    ]
    assert await pair.ops.scalar("SELECT count(*) FROM orders") == 5000


async def test_text_that_tries_to_leave_its_place_is_refused(pair):
    await pair.script("ops", ORDERS)
    await pair.script("reports", "CREATE TABLE t (id bigint)")
    for source in (
        {"table": "orders", "where": "true)) TO STDOUT; DROP TABLE orders; --"},
        {"table": "orders", "where": "true); DROP TABLE orders; --"},
        {"query": "SELECT 1 AS id; DROP TABLE orders"},
        {"query": "DELETE FROM orders RETURNING id"},
        {"query": "WITH d AS (DELETE FROM orders RETURNING id) SELECT * FROM d"},
    ):
        with pytest.raises(StepError):
            await pair.copy(source, "t", columns={"id": "id"})
    assert await pair.ops.scalar("SELECT count(*) FROM orders") == 5000


@pytest.mark.parametrize(
    "name",
    [
        'a"; DROP TABLE x; --',
        "a.b",
        "Ünïcode 表",
        "SELECT",
        "MiXed",
        '"',
        "x" * 63,
        " ",
        "a:b ${c}",
    ],
)
async def test_names_are_used_to_the_letter(pair, name):
    quoted = '"' + name.replace('"', '""') + '"'
    await pair.script("ops", f"CREATE SCHEMA {quoted}")
    await pair.script(
        "ops",
        f"CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY, b text);"
        f"INSERT INTO {quoted}.{quoted} VALUES (1, 'x')",
    )
    end = {"schema": name, "table": name}
    for mode in ("overwrite", "overwrite", "upsert", "append"):
        if mode == "append":
            await pair.script("reports", f"DELETE FROM {quoted}.{quoted}")
        await pair.copy(end, end, mode=mode)
    assert await pair.reports.first(f"SELECT * FROM {quoted}.{quoted}") == {name: 1, "b": "x"}


async def test_what_is_missing_or_wrong_is_named_before_anything_changes(pair):
    await pair.script(
        "ops", "CREATE TABLE s (a int, b int); INSERT INTO s VALUES (1, 2); CREATE SEQUENCE q"
    )
    await pair.script(
        "reports",
        "CREATE TABLE t (a int); INSERT INTO t VALUES (7); CREATE VIEW v AS SELECT 1 AS a;"
        "CREATE TABLE strict (a int, must int NOT NULL);"
        "CREATE TABLE made (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
    )
    only_a = {"columns": {"a": "a"}}
    for source, target, settings, words in (
        ("nothing", "t", {}, "source table nothing is not in 'ops'"),
        ({"schema": "no", "table": "s"}, "t", {}, "source table no.s is not"),
        ("q", "t", {}, "not a table or view"),
        ("s", "t", {}, "no column 'b'"),
        ("s", "t", {"columns": {"a": "zz"}}, "no column 'zz'"),
        ("s", "t", {"columns": {"zz": "a"}}, "no column 'zz'"),
        ("s", "v", only_a, "is a view"),
        ("s", "strict", only_a, "'must'"),
        ("s", "made", {"columns": {"a": "a", "b": "b"}}, "generated"),
        ({"query": "SELECT 1 AS a, 2 AS a"}, "t", {}, "two columns named 'a'"),
        ({"query": "SELECT 1 AS a WHERE :x"}, "t", {}, "`:x`"),
        ({"query": "SELECT 1 AS a", "params": {"x": 1}}, "t", {}, "no `:x`"),
        ({"query": "SELECT FROM s"}, "t", {}, "no columns"),
        ("s", "t", {**only_a, "min_rows": 2}, "min_rows = 2"),
        ({"connector": "gone", "table": "s"}, "t", {}, "gone"),
    ):
        with pytest.raises(StepError, match=words):
            await pair.copy(source, target, **settings)
    assert await pair.reports.all("SELECT a FROM t") == [{"a": 7}]
    await pair.copy("s", "made")
    assert await pair.reports.first("SELECT * FROM made") == {"a": 1, "b": 2}


async def test_a_table_is_not_copied_onto_itself(pair):
    await pair.script("ops", ORDERS)
    with pytest.raises(StepError, match="onto itself") as caught:
        await pair.copy("orders", {"connector": "ops", "schema": "public", "table": "orders"})
    assert not caught.value.retryable
    assert await pair.ops.scalar("SELECT count(*) FROM orders") == 5000


@pytest.mark.parametrize("pool_size", [1, 5])
async def test_within_one_database_rows_never_leave_the_server(pair, pool_size):
    await pair.script("ops", ORDERS)
    one = pair.connectors["ops"].model_copy(update={"pool_size": pool_size})
    pair.connectors["ops"] = one
    target = {"connector": "ops", "schema": "copy", "table": "orders"}
    source = {"table": "orders", "where": "id <= :n", "params": {"n": 100}}
    for mode in ("overwrite", "overwrite", "upsert"):
        result = await pair.copy(source, target, mode=mode)
        assert result.output["source_rows"] == 100
    await pair.script("ops", "DELETE FROM copy.orders WHERE id <= 50")
    assert (await pair.copy(source, target)).output["inserted"] == 50
    assert len(pair.context.pids) == 1


async def test_a_copy_is_guarded_against_losing_too_much(pair):
    await pair.script("ops", ORDERS)
    await pair.copy("orders", "orders")
    await pair.script("ops", "DELETE FROM orders WHERE id > 3000")
    for limit, words in (("20%", "allows 1000"), (100, "allows 100")):
        with pytest.raises(StepError, match=words):
            await pair.copy("orders", "orders", max_delete=limit)
        assert await pair.reports.scalar("SELECT count(*) FROM orders") == 5000
    await pair.copy("orders", "orders", max_delete="50%")
    assert await pair.reports.scalar("SELECT count(*) FROM orders") == 3000


async def test_sequences_go_on_behind_the_copied_numbers(pair):
    await pair.script("ops", ORDERS)
    for kind in ("bigserial", "bigint GENERATED ALWAYS AS IDENTITY"):
        for mode in ("overwrite", "upsert", "append"):
            await pair.script(
                "reports",
                f"DROP TABLE IF EXISTS orders; CREATE TABLE orders (id {kind} PRIMARY KEY, n text)",
            )
            await pair.copy("orders", "orders", mode=mode, columns={"id": "id", "n": "note"})
            new = await pair.reports.scalar("INSERT INTO orders (n) VALUES ('x') RETURNING id")
            assert new == 5001, (kind, mode)


async def test_progress_is_told_in_batches(pair):
    await pair.script("ops", ORDERS)
    await pair.copy("orders", "orders", batch_size=1000)
    last = pair.context.events[-1]
    assert (last["done"], last["total"], last["unit"]) == (5000, 5000, "rows")
    assert (last["batch"], last["batches"], last["is_last"]) == (5, 5, True)
    assert any("batch 5 of 5 · 5 000 rows" in line for line in pair.context.log.at("INFO"))
    assert any("rows/s" in line for line in pair.context.log.at("INFO"))


async def test_a_dry_run_counts_and_changes_nothing(pair):
    await pair.script("ops", ORDERS)
    fresh = await pair.copy("orders", {"schema": "new", "table": "o"}, dry_run=True)
    assert fresh.summary == "dry run: 5 000 rows would fill a new table new.o"
    assert await pair.reports.scalar("SELECT to_regnamespace('new')") is None
    await pair.copy({"table": "orders", "where": "id <= 10"}, "orders")
    for mode in ("overwrite", "append", "upsert"):
        planned = await pair.copy("orders", "orders", mode=mode, dry_run=True)
        assert (planned.output["source_rows"], planned.output["target_rows"]) == (5000, 10)
    assert await pair.reports.scalar("SELECT count(*) FROM orders") == 10


async def test_an_empty_source_is_an_empty_target(pair):
    await pair.script("ops", ORDERS)
    await pair.copy("orders", "orders")
    await pair.script("ops", "DELETE FROM orders")
    result = await pair.copy("orders", "orders")
    assert result.output["target_rows"] == 0
    assert result.summary.startswith("0 rows copied")
    assert await pair.reports.scalar("SELECT count(*) FROM orders") == 0
    assert any("no rows" in line for line in pair.context.log.at("WARNING"))
