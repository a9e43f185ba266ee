"""The ledger of due times read page by page, and due times that are woken by what they wait for."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS: tuple[str, ...] = (
    "ALTER TABLE nomaflow.slots ADD COLUMN waits_for jsonb",
    # Whose end wakes it. Few rows wait at a time, so the index is small.
    """CREATE INDEX slots_waiting ON nomaflow.slots USING gin (waits_for)
       WHERE outcome = 'waiting'""",
    # A page of all schedules reads each outcome wanted in order, and merges.
    "CREATE INDEX slots_by_outcome ON nomaflow.slots (outcome, due_at, schedule_id)",
    # Rows that stand for many due times, to find those that reach into a window.
    """CREATE INDEX slots_of_many ON nomaflow.slots USING gist (tstzrange(due_at, until, '[]'))
       WHERE until IS NOT NULL""",
)
UNDO: tuple[str, ...] = (
    "DROP INDEX nomaflow.slots_of_many, nomaflow.slots_by_outcome, nomaflow.slots_waiting",
    "ALTER TABLE nomaflow.slots DROP COLUMN waits_for",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
