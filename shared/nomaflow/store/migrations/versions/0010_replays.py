"""Which run ran another one again."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    op.execute(
        """CREATE INDEX runs_of_replay ON nomaflow.runs (replay_of, queued_at DESC)
           WHERE replay_of IS NOT NULL"""
    )


def downgrade() -> None:
    """Take it away again."""
    op.execute("DROP INDEX nomaflow.runs_of_replay")
