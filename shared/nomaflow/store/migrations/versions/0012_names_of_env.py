"""Which definitions of the API may read any name of `.env`: those that an administrator saved."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    op.execute(
        "ALTER TABLE nomaflow.job_revisions ADD COLUMN any_env boolean NOT NULL DEFAULT false"
    )


def downgrade() -> None:
    """Take it away again."""
    op.execute("ALTER TABLE nomaflow.job_revisions DROP COLUMN any_env")
