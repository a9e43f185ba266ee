import pytest

from nomaflow.connectors import intent


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  -- a word\n/* insert */ select 'delete' AS \"update\", replace(a, 'x', 'y') FROM t",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SELECT a FROM t FOR UPDATE",
        "VALUES (1)",
        "show all",
        "PRAGMA table_info(t)",
        "SELECT $$insert into$$",
        "(SELECT 1)",
        "SELECT `drop` FROM t # create",
    ],
)
def test_a_query_reads(sql):
    assert intent.only_reads(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "WITH gone AS (DELETE FROM t RETURNING a) SELECT * FROM gone",
        "SELECT * INTO copy FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "PRAGMA journal_mode = wal",
        "REPLACE INTO t VALUES (1)",
        "CALL p()",
        "",
        "-- nothing",
        "VACUUM t",
    ],
)
def test_anything_else_may_write(sql):
    assert not intent.only_reads(sql)


def test_what_can_be_planned():
    assert intent.is_plannable("delete from t")
    assert not intent.is_plannable("TRUNCATE t")
