"""Frames: whole messages out of any pieces, and nothing else."""

from __future__ import annotations

import pytest

from nomaflow_worker.sandbox.wire import Frames, WireError, frame, frame_text


def test_messages_survive_any_cutting():
    messages = [{"a": 1}, {"b": ["é", None, "\x00"]}, {}]
    line = b"".join(map(frame, messages))
    for size in (1, 3, len(line)):
        frames = Frames(1000)
        pieces = [line[at : at + size] for at in range(0, len(line), size)]
        assert [m for piece in pieces for m in frames.feed(piece)] == messages


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02[]",
        b"\x00\x00\x00\x01{",
        b"\x00\x00\x00\x02\xff\xff",
        frame_text('{"a": NaN}'),
        frame_text("[" * 5000),
        frame_text('{"a": ' + "9" * 5000 + "}"),
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(WireError):
        list(Frames(100_000).feed(data))
