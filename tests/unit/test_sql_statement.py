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
