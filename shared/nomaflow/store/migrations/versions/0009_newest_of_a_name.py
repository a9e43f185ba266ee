"""The newest end of a name is found by one look, however long its history is."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    # Of any status: who asks for the newest failure of a name should not read all its successes.
    """CREATE INDEX runs_newest_end ON nomaflow.runs (job_name, status, finished_at DESC)
       WHERE finished_at IS NOT NULL AND NOT dry_run""",
    "DROP INDEX nomaflow.runs_newest_success",
    # Beside it, the planner would take this one for a status that is hardly there.
    "DROP INDEX nomaflow.runs_ended",
    "CREATE INDEX external_runs_between ON nomaflow.external_runs (destination, source)",
)
UNDO = (
    "DROP INDEX nomaflow.external_runs_between",
    """CREATE INDEX runs_ended ON nomaflow.runs (job_name, finished_at DESC)
       WHERE status IN ('succeeded', 'partial', 'failed', 'aborted')""",
    """CREATE INDEX runs_newest_success ON nomaflow.runs (job_name, finished_at DESC)
       WHERE status = 'succeeded' AND NOT dry_run""",
    "DROP INDEX nomaflow.runs_newest_end",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
