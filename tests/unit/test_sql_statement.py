import pytest

from nomaflow.connectors import statement
from nomaflow.errors import NomaflowError


@pytest.mark.parametrize(
    ("sql", "numbered"),
    [
        ("SELECT :a", "SELECT $1"),
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1"),
        ("SELECT ':a', :b", "SELECT ':a', $1"),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', $1"),
        (r"SELECT E'it\'s :a', :b", r"SELECT E'it\'s :a', $1"),
        (r"SELECT 'a\', :b", r"SELECT 'a\', $1"),
        ('SELECT ":a", :b', 'SELECT ":a", $1'),
        ('SELECT "a"":b", :b', 'SELECT "a"":b", $1'),
        ("SELECT $$ :a $$, :b", "SELECT $$ :a $$, $1"),
        ("SELECT $x$ :a $$ :c $x$, :b", "SELECT $x$ :a $$ :c $x$, $1"),
        ("SELECT :b -- :a\n, :c", "SELECT $1 -- :a\n, $2"),
        ("SELECT /* :a /* :b */ :c */ :d", "SELECT /* :a /* :b */ :c */ $1"),
        ("SELECT now()::date, :a::int", "SELECT now()::date, $1::int"),
        ("SELECT a[1:n], :b", "SELECT a[1:n], $1"),
        ("SELECT f(x := :a)", "SELECT f(x := $1)"),
        ("SELECT x$y$:a$y$", "SELECT x$y$:a$y$"),
        ("SELECT é:a, :é", "SELECT é:a, :é"),
    ],
)
def test_a_colon_is_a_parameter_only_where_sql_would_let_a_value_stand(sql, numbered):
    assert statement.parse(sql).numbered() == numbered


def test_an_unfinished_literal_or_comment_hides_everything_behind_it():
    for sql in ("SELECT 'a :b", 'SELECT "a :b', "SELECT $$ :b", "SELECT /* :b", "SELECT E'a\\' :b"):
        assert statement.parse(sql).names == ()


def test_names_are_numbered_once_or_once_per_place():
    parsed = statement.parse(":since IS NULL OR at > :since AND :n = 1")
    assert parsed.order() == ("since", "n")
    assert parsed.numbered({1: "::text"}, apart=True) == "($1::text) IS NULL OR at > $2 AND $3 = 1"
    assert parsed.order(apart=True) == ("since", "since", "n")


@pytest.mark.parametrize("sql", ["SELECT $1", "SELECT a FROM t WHERE b = $12", "SELECT 'a\0b'"])
def test_texts_that_number_their_own_parameters_or_hold_nul_are_refused(sql):
    with pytest.raises(NomaflowError):
        statement.parse(sql)


@pytest.mark.parametrize(
    ("dialect", "sql", "names"),
    [
        ("mysql", r"SELECT 'it\'s :a', :b", ("b",)),
        ("mysql", r'SELECT "it\"s :a", :b', ("b",)),
        ("mysql", "SELECT `:a`, `x``:c`, :b", ("b",)),
        ("mysql", "SELECT :b # :a", ("b",)),
        ("mysql", "SELECT 1--:a\n", ("a",)),  # minus minus, not a comment, as MySQL reads it
        ("mysql", "SELECT 1 -- :a\n, :b", ("b",)),
        ("mysql", "SELECT /* /* :a */ :b", ("b",)),
        ("mysql", "SET @x := 1", ()),
        ("mysql", "SET @x:=:b", ("b",)),
        ("sqlite", 'SELECT [a:b], `a:b`, "a:b", :b', ("b",)),
        ("sqlite", r"SELECT '\', :b", ("b",)),
        ("sqlite", "SELECT a$b, /* /* :a */ :b -- :c", ("b",)),
        ("oracle", "SELECT q'[it's :a]', q'!it's :a!', Q'{:a}', :b FROM dual", ("b",)),
        ("mssql", "SELECT [a]]:b], :b, geography::Parse(:b)", ("b", "b")),
        ("mssql", "SELECT /* :a /* :b */ :c */ :d", ("d",)),
    ],
)
def test_each_database_reads_its_own_language(dialect, sql, names):
    assert statement.parse(sql, dialect).names == names


@pytest.mark.parametrize(
    ("dialect", "sql"),
    [
        ("mysql", "SELECT ?"),
        ("sqlite", "SELECT ?1"),
        ("sqlite", "SELECT @a"),
        ("sqlite", "SELECT $a"),
        ("oracle", "SELECT :1 FROM dual"),
        ("mssql", "SELECT ?"),
    ],
)
def test_other_marks_of_parameters_are_refused(dialect, sql):
    with pytest.raises(NomaflowError, match="write parameters as `:name`"):
        statement.parse(sql, dialect)
