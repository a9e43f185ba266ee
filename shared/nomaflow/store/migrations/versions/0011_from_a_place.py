"""Outside runs are found by where their data came from, whatever it went to."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    # The other one begins with the destination: of a source alone it would be read whole.
    op.execute("CREATE INDEX external_runs_from ON nomaflow.external_runs (source, destination)")


def downgrade() -> None:
    """Take it away again."""
    op.execute("DROP INDEX nomaflow.external_runs_from")
