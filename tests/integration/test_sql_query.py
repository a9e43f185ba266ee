import pytest
from step_context import RealContext

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError
from nomaflow.steps.sql_query import SqlQuery

QUERIES = {
    "totals": {"sql": "SELECT sum(a)::int AS total FROM t"},
    "add": {"operation": "write", "sql": "INSERT INTO t VALUES (:a)"},
    "sneaky": {"sql": "DELETE FROM t RETURNING a"},
}


@pytest.fixture
async def db(pg_url):
    opened = sql.open("db", spec.parse({"kind": "sql", "url": pg_url}))
    await opened.execute("CREATE TABLE t (a int PRIMARY KEY)")
    await opened.execute("INSERT INTO t SELECT generate_series(1, 3)")
    yield opened
    await opened.close()


@pytest.fixture
def run(pg_url):
    connectors = {
        "db": spec.parse({"kind": "sql", "url": pg_url, "queries": QUERIES}),
        "api": spec.parse({"kind": "http", "url": "http://127.0.0.1"}),
    }

    async def run(query, *, connector="db", dry_run=False, context=None, **config):
        context = context or RealContext(connectors, dry_run=dry_run)
        raw = {"connector": connector, "query": query, **config}
        return await context.run(SqlQuery.model_validate(raw))

    run.connectors = connectors
    return run


async def test_a_write_says_how_many_rows_it_changed(db, run):
    result = await run("UPDATE t SET a = a + 10 WHERE a <= :n", params={"n": "2"})
    assert (result.rows_affected, result.summary) == (2, "2 rows affected")
    assert set(result.output) == {"rows_affected", "elapsed_ms"}
    one = await run("INSERT INTO t VALUES (50) ON CONFLICT (a) DO NOTHING")
    assert one.summary == "1 row affected"


async def test_a_read_hands_rows_to_later_steps(db, run):
    result = await run("SELECT a, a / 2.0 AS half, now() AS at, NULL AS x FROM t ORDER BY a")
    assert (result.output["row_count"], result.rows_affected) == (3, None)
    first = result.output["first_row"]
    assert (first["a"], first["half"], first["x"]) == (1, 0.5, None)
    assert isinstance(first["at"], str)
    assert len(result.output["rows"]) == 3
    first = await run("SELECT a FROM t ORDER BY a", fetch="first")
    assert first.output["first_row"] == {"a": 1}
    assert "rows" not in first.output
    none = await run("SELECT a FROM t", fetch="none")
    assert none.output["row_count"] == 3
    assert "first_row" not in none.output


async def test_changed_rows_may_be_returned(db, run):
    result = await run("DELETE FROM t WHERE a > 1 RETURNING a")
    assert (result.rows_affected, result.output["rows"]) == (2, [{"a": 2}, {"a": 3}])
    none = await run("DELETE FROM t WHERE a > 1 RETURNING a")
    assert (none.rows_affected, none.output["rows"], none.output["row_count"]) == (0, [], 0)


async def test_named_queries_read_or_write_as_declared(db, run):
    assert (await run("totals")).output["first_row"] == {"total": 6}
    assert (await run("add:write", params={"a": 9})).rows_affected == 1
    for query, words in (
        ("totals:write", "only reads"),
        ("add", "add:write"),
        ("nothing", "no query named"),
        ("sneaky", "read-only"),
    ):
        with pytest.raises(StepError, match=words):
            await run(query, params={"a": 1} if query == "add" else {})
    with pytest.raises(StepError, match="`b`"):
        await run("add:write", params={"a": 1, "b": 2})
    assert await db.scalar("SELECT count(*) FROM t") == 4


@pytest.mark.parametrize(
    ("query", "again"),
    [
        ("SELEC a FROM t", False),
        ("unknown", False),
        ("totals:write", False),
        ("add", False),
        ("sneaky", False),
        ("SELECT a FROM not_there_yet", True),
        ("SELECT not_there_yet FROM t", True),
        ("INSERT INTO t VALUES (1)", True),
        ("SELECT 1 / 0", True),
    ],
)
async def test_what_no_repeat_can_cure_is_not_repeated(db, run, query, again):
    with pytest.raises(StepError) as caught:
        await run(query)
    assert caught.value.retryable is again


async def test_values_are_stored_to_the_letter(db, run):
    await run("CREATE TABLE words (w text)")
    nasty = "'; DROP TABLE t; --"
    await run("INSERT INTO words VALUES (:w)", params={"w": nasty})
    assert await db.scalar("SELECT w FROM words") == nasty


async def test_ddl_call_and_refresh_run(db, run):
    assert (await run("CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t")).rows_affected == 1
    assert (await run("REFRESH MATERIALIZED VIEW m")).rows_affected == 0
    empty = (await run("CREATE TABLE empty AS SELECT a FROM t WHERE false")).output
    assert (empty.pop("elapsed_ms") >= 0, empty) == (True, {"rows_affected": 0})
    await run("CREATE PROCEDURE p() LANGUAGE sql AS 'INSERT INTO t VALUES (77)'")
    await run("CALL p()")
    assert await db.scalar("SELECT count(*) FROM t WHERE a = 77") == 1


async def test_statements_that_refuse_a_transaction_run_without_one(db, run):
    with pytest.raises(StepError, match="transaction block"):
        await run("VACUUM t")
    await run("VACUUM t", transaction=False)
    await run("CREATE INDEX CONCURRENTLY i ON t (a)", transaction=False)
    assert (await run("SELECT a FROM t", transaction=False)).output["row_count"] == 3


async def test_failures_are_sentences(db, run):
    for query, connector, words in (
        ("SELECT 1; SELECT 2", "db", "multiple commands"),
        ("SELECT 1/0", "db", "division by zero"),
        ("SELECT * FROM nowhere", "db", 'relation "nowhere" does not exist'),
        ("INSERT INTO t VALUES (1)", "db", "duplicate key"),
        ("SELECT 1", "nothing", "nothing"),
        ("SELECT 1", "api", "api"),
    ):
        with pytest.raises(StepError, match=words):
            await run(query, connector=connector)
    await run("CREATE TABLE c (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(StepError, match="duplicate key"):  # found only at the commit
        await run("INSERT INTO c VALUES (1), (1)")
    assert await db.scalar("SELECT count(*) FROM c") == 0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 'January 1, 4713 BC'::date", "select it as text"),
        ("SELECT '12345-01-01'::timestamp", "select it as text"),
        ("SELECT 1; SELECT 2", "one text is one statement"),
        ("VACUUM t", "set `transaction = false`"),
    ],
)
async def test_a_failure_says_what_to_do(db, run, query, told):
    with pytest.raises(StepError, match=told):
        await run(query)


async def test_two_columns_of_one_name_are_warned_of(db, run):
    for query in (
        "SELECT 1 AS a, 2 AS a, 3 AS b",
        "UPDATE t SET a = a WHERE a = 2 RETURNING 1 AS a, a",
    ):
        context = RealContext(run.connectors)
        answer = await run(query, context=context)
        assert answer.output["first_row"]["a"] == 2
        warned = [words for level, words in context.log.lines if level == "WARNING"]
        assert len(warned) == 1
        assert "two columns named `a`" in warned[0]


async def test_endless_times_are_words_and_the_last_day_of_9999_is_a_day(db, run):
    answer = await run(
        "SELECT 'infinity'::date AS d, '-infinity'::date AS e, 'infinity'::timestamp AS s, "
        "'infinity'::timestamptz AS z, '-infinity'::timestamptz AS y, "
        "daterange('2026-01-01', 'infinity') AS r, "
        "'9999-12-31'::date AS last, '9999-12-31 23:59:59.999999'::timestamp AS moment"
    )
    assert answer.output["first_row"] == {
        "d": "infinity",
        "e": "-infinity",
        "s": "infinity",
        "z": "infinity",
        "y": "-infinity",
        "r": "[2026-01-01,infinity)",
        "last": "9999-12-31",
        "moment": "9999-12-31T23:59:59.999999",
    }


async def test_ranges_look_as_in_postgresql(db, run):
    result = await run(
        "SELECT '[1,3)'::int4range AS a, '(,5]'::numrange AS b, 'empty'::int4range AS c"
    )
    assert result.output["first_row"] == {"a": "[1,3)", "b": "(,5]", "c": "empty"}


async def test_full_sql_is_logged_at_debug_only(db, run):
    context = RealContext(run.connectors)
    await run("SELECT 'abracadabra'", context=context)
    assert "abracadabra" in " ".join(context.log.at("DEBUG"))
    assert "abracadabra" not in " ".join(context.log.at("INFO"))


async def test_memory_is_bounded_by_us_and_not_by_the_answer(db, run, monkeypatch):
    monkeypatch.setattr("nomaflow.steps.sql_query.ROWS_KEPT", 1000)
    result = await run("SELECT g FROM generate_series(1, 50000) g")
    assert result.output["row_count"] == 50_000
    assert (len(result.output["rows"]), result.output["rows_truncated"]) == (1000, True)
    huge = await run("SELECT repeat('x', 1000000) AS x FROM generate_series(1, 200)")
    assert len(huge.output["rows"]) == 63
    assert huge.output["row_count"] == 200


async def test_a_dry_run_reads_for_real_and_plans_what_writes(db, run):
    assert (await run("SELECT a FROM t", dry_run=True)).output["row_count"] == 3
    planned = await run("DELETE FROM t", dry_run=True)
    assert planned.output["dry_run"]
    assert planned.output["estimated_rows"] > 0
    assert planned.summary.startswith("dry run: the statement would run")
    for query in ("add:write", "TRUNCATE t", "DROP TABLE t", "VACUUM t"):
        params = {"a": 5} if query == "add:write" else {}
        assert (await run(query, dry_run=True, params=params)).output["dry_run"]
    sneaky = "SELECT setval('s', 5)"
    await db.execute("CREATE SEQUENCE s")
    assert (await run(sneaky, dry_run=True)).output["dry_run"]
    with pytest.raises(StepError, match="read-only"):
        await run("sneaky", dry_run=True)
    assert await db.scalar("SELECT count(*) FROM t") == 3


async def test_history_keeps_a_hundred_rows_and_later_steps_get_all(db, run):
    result = await run("SELECT g FROM generate_series(1, 250) g")
    assert len(result.output["rows"]) == 250
    assert (len(result.shown["rows"]), result.shown["row_count"]) == (100, 250)
    assert (await run("SELECT g FROM generate_series(1, 100) g")).shown is None


async def test_a_query_with_a_with_is_read_from_a_cursor(db, run):
    read = await run("WITH x AS (SELECT g FROM generate_series(1, 5) g) SELECT * FROM x")
    assert (read.output["row_count"], read.rows_affected) == (5, None)
    gone = await run("WITH gone AS (DELETE FROM t RETURNING a) SELECT * FROM gone")
    assert gone.output["row_count"] == 3
    assert await db.scalar("SELECT count(*) FROM t") == 0


OTHERS = {
    "sum": {"sql": "SELECT sum(a) AS total FROM t"},
    "add": {"operation": "write", "sql": "INSERT INTO t VALUES (:a)"},
}


@pytest.fixture(params=["mysql", "sqlite"])
async def other(request, tmp_path):
    if request.param == "mysql":
        url = await request.getfixturevalue("new_mariadb_url")()
    else:
        url = f"sqlite:///{tmp_path}/q.db"
    declared = spec.parse({"kind": "sql", "url": url, "queries": OTHERS})
    opened = sql.open("db", declared)
    await opened.execute("CREATE TABLE t (a int PRIMARY KEY)")
    await opened.execute("INSERT INTO t VALUES (1), (2), (3)")

    async def run(query, *, dry_run=False, **config):
        context = RealContext({"db": declared}, dry_run=dry_run)
        return await context.run(
            SqlQuery.model_validate({"connector": "db", "query": query, **config})
        )

    yield opened, run
    await opened.close()


@pytest.fixture
def mariadb(new_mariadb_url):
    return new_mariadb_url


async def test_other_databases_answer_alike(mariadb, other):
    db, run = other
    assert (await run("UPDATE t SET a = a + 10 WHERE a <= :n", params={"n": 2})).rows_affected == 2
    read = await run("SELECT a, 'x' AS b FROM t ORDER BY a")
    assert read.output["first_row"] == {"a": 3, "b": "x"}
    assert (len(read.output["rows"]), read.rows_affected) == (3, None)
    assert int((await run("sum")).output["first_row"]["total"]) == 26
    assert (await run("add:write", params={"a": 9})).rows_affected == 1
    for query, words in (
        ("add", "add:write"),
        ("sum:write", "only reads"),
        ("none", "no query named"),
    ):
        with pytest.raises(StepError, match=words):
            await run(query, params={"a": 1} if query == "add" else {})
    await run("CREATE TABLE words (w varchar(50))")
    await run("INSERT INTO words VALUES (:w)", params={"w": "'; DROP TABLE t; -- \\"})
    assert await db.scalar("SELECT w FROM words") == "'; DROP TABLE t; -- \\"
    assert (await run("SELECT 1 AS x, 2 AS x")).output["first_row"] == {"x": 2}
    with pytest.raises(StepError, match="nowhere"):
        await run("SELECT * FROM nowhere")


async def test_other_databases_tell_what_no_repeat_can_cure(mariadb, other):
    _, run = other
    for query, again in (
        ("SELECT 1 FRO M t u", False),
        ("none", False),
        ("SELECT a FROM not_there_yet", True),
        ("INSERT INTO t VALUES (1)", True),
    ):
        with pytest.raises(StepError) as caught:
            await run(query)
        assert caught.value.retryable is again, caught.value


async def test_a_dry_run_changes_nothing_in_other_databases(mariadb, other):
    db, run = other
    assert (await run("SELECT a FROM t", dry_run=True)).output["row_count"] == 3
    for query in ("DELETE FROM t", "add:write", "DROP TABLE t", "UPDATE t SET a = 0"):
        params = {"a": 5} if query == "add:write" else {}
        planned = await run(query, dry_run=True, params=params)
        assert planned.output["dry_run"]
    assert await db.scalar("SELECT count(*) AS n FROM t") == 3
    with pytest.raises(StepError, match="nowhere"):
        await run("DELETE FROM nowhere", dry_run=True)
