"""Pages that a sync could not fetch: what to ask for again."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what this version needs."""
    op.execute("ALTER TABLE nomaflow.failed_batches ADD COLUMN request jsonb")


def downgrade() -> None:
    """Take it away again; a page without its request cannot be retried."""
    op.execute("DELETE FROM nomaflow.failed_batches WHERE request IS NOT NULL")
    op.execute("ALTER TABLE nomaflow.failed_batches DROP COLUMN request")
