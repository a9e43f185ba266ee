"""`nomaflow slots` as a table: each outcome is a line, also of what still waits."""

import pytest

from nomaflow.cli import clock_documents, clock_tables

PLAIN = {
    "job": "report",
    "schedule": "default",
    "timezone": "UTC",
    "dueAt": "2026-11-25T08:30:00.000Z",
    "outcome": "fired",
    "reason": None,
    "until": None,
    "count": 1,
    "lookAt": None,
    "waitsUntil": None,
    "run": None,
    "replay": None,
}
WAITS = {"lookAt": "2026-11-25T08:31:07.000Z", "waitsUntil": "2026-11-25T09:00:09.000Z"}


def test_the_document_asks_for_what_the_table_shows():
    assert all(field in clock_documents.SLOTS for field in PLAIN)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"run": {"id": "1", "status": "SUCCEEDED"}}, ["succeeded 1"]),
        ({"outcome": "caught_up", "run": {"id": "1", "status": "QUEUED"}}, ["caught up"]),
        ({"outcome": "skipped", "reason": "paused: by x"}, ["paused: by x"]),
        ({"replay": {"id": "7", "status": "SUCCEEDED"}}, ["replayed: succeeded 7"]),
        ({"outcome": "missed", "until": PLAIN["dueAt"], "count": 1200}, ["1 200 times"]),
        ({"outcome": "waiting", **WAITS}, ["looked at again 2026-11-25", "waits until 2026-11-25"]),
        ({"outcome": "postponed", "lookAt": WAITS["lookAt"]}, ["looked at again 2026-11-25"]),
    ],
)
def test_each_outcome_is_a_line(capsys, changes, shown):
    clock_tables.print_slots([PLAIN | changes])
    out = capsys.readouterr().out
    assert [words for words in shown if words not in out] == []
