import struct

import pytest

from nomaflow.steps.copying.postgres import passage
from nomaflow.steps.copying.postgres.passage import RowCounter, _Stream

HEADER = passage._HEADER
TRAILER = passage._TRAILER


def row(*values):
    fields = b"".join(
        struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
        for value in values
    )
    return struct.pack("!h", len(values)) + fields


def test_rows_of_a_text_copy_are_counted_exactly():
    counter = RowCounter("text")
    assert [counter.add(b"a\tb\nc\\n\t\\N\n"), counter.add(b"d\n")] == [2, 3]


def test_rows_of_a_binary_copy_are_estimated_from_samples():
    counter = RowCounter("binary")
    one = row(b"abcd", None, b"x" * 10)
    assert counter.add(HEADER + one * 100) == pytest.approx(100, abs=2)
    assert counter.add(one * 900) == pytest.approx(1000, abs=10)
    counter.settle(1000)
    assert counter.add(one * 10) == pytest.approx(1010, abs=2)


def test_a_portion_that_holds_no_whole_row_is_not_misread():
    counter = RowCounter("binary")
    for portion in (HEADER, b"", b"\x00", row(b"x" * 100)[:50], TRAILER):
        assert counter.add(portion) == 0


async def segments(portions, monkeypatch, size):
    monkeypatch.setattr(passage, "SEGMENT", {"binary": size, "text": size})
    monkeypatch.setattr(passage, "PORTIONS", 100)
    stream = _Stream("binary", lambda _rows: None)
    for portion in portions:
        await stream.put(portion)
    stream.end()
    found = []
    while not stream.is_over:
        found.append(b"".join([part async for part in stream.segment(until=lambda: False)]))
    return found


async def test_each_segment_is_a_whole_copy(monkeypatch):
    one = row(b"12345678")
    found = await segments([HEADER + one, one, one, one, TRAILER], monkeypatch, len(one) * 2)
    assert found == [
        HEADER + one + TRAILER,
        HEADER + one * 2 + TRAILER,
        HEADER + one + TRAILER,
    ]


async def test_a_portion_that_ends_like_a_trailer_does_not_end_a_segment(monkeypatch):
    odd, plain = row(b"1234\xff\xff"), row(b"123456")
    found = await segments([HEADER + odd, plain, odd + TRAILER], monkeypatch, 5)
    assert found == [HEADER + odd + plain + TRAILER, HEADER + odd + TRAILER]


async def test_an_end_between_two_segments_leaves_an_empty_copy(monkeypatch):
    one = row(b"12345678")
    found = await segments([HEADER + one], monkeypatch, 5)  # a source that failed here
    assert found == [HEADER + one + TRAILER, HEADER + TRAILER]
    assert await segments([HEADER + TRAILER], monkeypatch, 5) == [HEADER + TRAILER]
