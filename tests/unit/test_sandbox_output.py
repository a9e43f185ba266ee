"""What a child prints, bounded; and text of users made harmless."""

from __future__ import annotations

from nomaflow_worker.sandbox.escape import visible
from nomaflow_worker.sandbox.output import BURST, PER_SECOND, Capture


def test_lines_come_as_they_are_completed():
    capture = Capture(0.0)
    assert capture.feed(b"one\ntw", 0.0) == ["one"]
    assert capture.feed(b"o\r\nthree", 0.1) == ["two"]
    assert capture.finish() == ["three"]


def test_a_line_of_bad_utf8_is_spelt_out():
    assert Capture(0.0).feed(b"caf\xe9 \xc3\xa9\n", 0.0) == ["caf\\xe9 é"]


def test_a_line_without_end_is_cut():
    capture = Capture(0.0)
    (line,) = capture.feed(b"x" * 100_000, 0.0)
    assert line.startswith("xxx")
    assert line.endswith("[83616 more bytes]")
    assert len(line) < 17_000


def test_a_flood_keeps_its_start_and_its_end_and_says_how_much_is_missing():
    capture = Capture(0.0)
    chunk = b"".join(b"%060d\n" % n for n in range(4000))
    kept = 0
    for _ in range(100):
        kept += sum(map(len, capture.feed(chunk, 0.5)))
    assert BURST / 4 < kept < BURST + PER_SECOND
    capture.feed(b"the last words", 0.5)
    marker, *tail = capture.finish()
    assert marker.startswith("[39")
    assert marker.endswith("of output left out]")
    assert tail[-1] == "the last words"
    assert sum(map(len, tail)) <= 64 * 1024


def test_after_a_flood_lines_come_again():
    capture = Capture(0.0)
    capture.feed(b"x\n" * 100_000, 0.0)
    assert capture.feed(b"too soon\n", 0.1) == []
    marker, line = capture.feed(b"later\n", 60.0)
    assert "left out" in marker
    assert line == "later"


def test_memory_stays_bounded_whatever_comes():
    capture = Capture(0.0)
    for _ in range(2000):
        capture.feed(b"y" * 65_536, 0.0)
    held = sum(map(len, capture._tail)) + len(capture._partial)
    assert held <= 3 * 64 * 1024


def test_nothing_moves_a_cursor_or_forges_a_line():
    assert visible("\x1b]0;evil\x07 a\rb\x00 \u2028 \u202e\x9b") == (
        "\\x1b]0;evil\\x07 a\\x0db\\x00 \\u2028 \\u202e\\x9b"
    )
    assert visible("line\n\tanother é 漢") == "line\n\tanother é 漢"
