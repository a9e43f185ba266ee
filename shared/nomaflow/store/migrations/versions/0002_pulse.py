"""The beat by which programs know how long the database has been within reach."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; its one row comes with the first beat."""
    op.execute(
        """
        CREATE TABLE nomaflow.pulse (
          id boolean PRIMARY KEY DEFAULT true CONSTRAINT pulse_is_one CHECK (id),
          since timestamptz NOT NULL,
          at timestamptz NOT NULL
        ) WITH (fillfactor = 10)"""
    )


def downgrade() -> None:
    """Take the table away; leases then count as expired by the server's start alone."""
    op.execute("DROP TABLE nomaflow.pulse")
