"""Connectors declared through the API."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE nomaflow.connectors (
      name text PRIMARY KEY,
      kind text NOT NULL CHECK (kind IN ('sql', 'http', 'ldap')),
      definition jsonb NOT NULL,
      sealed text,
      secret_names text[] NOT NULL DEFAULT '{}',
      revision integer NOT NULL DEFAULT 1,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      updated_by text NOT NULL,
      CHECK (name <> 'default' AND (sealed IS NULL) = (secret_names = '{}'))
    )
    """,
)
UNDO = ("DROP TABLE nomaflow.connectors",)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
