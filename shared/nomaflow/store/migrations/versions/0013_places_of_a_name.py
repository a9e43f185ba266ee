"""Whether a name was ever at a place is told by one look, however much it did elsewhere."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE nomaflow.external_runs ADD COLUMN job_name text",
    """UPDATE nomaflow.external_runs e SET job_name = r.job_name
       FROM nomaflow.runs r WHERE r.id = e.run_id""",
    "ALTER TABLE nomaflow.external_runs ALTER COLUMN job_name SET NOT NULL",
    """CREATE INDEX external_runs_of_name
       ON nomaflow.external_runs (job_name, source, destination)""",
)
UNDO = (
    "DROP INDEX nomaflow.external_runs_of_name",
    "ALTER TABLE nomaflow.external_runs DROP COLUMN job_name",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
