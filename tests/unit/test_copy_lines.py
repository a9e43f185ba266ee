"""Lines of COPY's text form: columns there and back, and pieces of whole lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomaflow.steps.copying import lines

CELLS = st.one_of(st.none(), st.text(st.characters(blacklist_categories=["Cs"]), max_size=6))


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[CELLS] * n), min_size=1)))
def test_columns_come_back_as_they_went(rows):
    columns = [list(column) for column in zip(*rows, strict=True)]
    written = lines.encode(columns)
    read, is_plain = lines.columns(written, len(columns))
    assert [list(column) for column in read] == columns
    assert lines.decode(written) == [list(row) for row in rows]
    assert is_plain is (b"\\" not in written)


@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b".") + b"\n")))
def test_pieces_are_whole_lines_and_nothing_is_lost(given_lines):
    portion = b"".join(given_lines)
    for size in (1, 5, 20, 1000):
        pieces = list(lines.pieces(portion, size))
        assert b"".join(pieces) == portion
        assert all(piece.endswith(b"\n") for piece in pieces)
        assert all(len(piece) <= max(size, 13) for piece in pieces)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (rb"a\vb", b"a\x0bb"),
        (rb"a\fb", b"a\x0cb"),
        (rb"\\vx\N", rb"\\vx\N"),
        (rb"\\\v", b"\\\\\x0b"),
        (rb"\t\n\b", rb"\t\n\b"),
    ],
)
def test_mysql_gets_controls_bare_that_it_cannot_read_escaped(written, wanted):
    assert lines.for_load_data(written) == wanted
