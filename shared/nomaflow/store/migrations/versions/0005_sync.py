"""Watermarks and failed batches."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS: tuple[str, ...] = (
    # No key to a job: state outlives a file that is taken away and comes back.
    """
    CREATE TABLE nomaflow.watermarks (
      job_name text NOT NULL,
      name text NOT NULL,
      value text NOT NULL,
      updated_at timestamptz NOT NULL DEFAULT now(),
      run_id uuid,
      PRIMARY KEY (job_name, name)
    )""",
    # Kept as long as the run that failed on it, whose definition a retry needs.
    """
    CREATE TABLE nomaflow.failed_batches (
      id uuid PRIMARY KEY DEFAULT uuidv7(),
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      job_name text NOT NULL,
      position int NOT NULL,
      step text NOT NULL,
      page int,
      batch int NOT NULL,
      items int NOT NULL,
      payload jsonb NOT NULL,
      masked boolean NOT NULL DEFAULT false,
      error text NOT NULL,
      attempts int NOT NULL DEFAULT 1,
      status text NOT NULL DEFAULT 'pending'
        CONSTRAINT failed_batch_status CHECK (status IN ('pending', 'done', 'failed')),
      retry_run_id uuid,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT failed_batch_tried CHECK (attempts >= 1)
    )""",
    """CREATE UNIQUE INDEX failed_batches_once ON nomaflow.failed_batches
       (run_id, position, batch)""",
    "CREATE INDEX failed_batches_of_job ON nomaflow.failed_batches (job_name, id DESC)",
    """CREATE INDEX failed_batches_open ON nomaflow.failed_batches (job_name, run_id)
       WHERE status <> 'done'""",
    "CREATE INDEX failed_batches_retried ON nomaflow.failed_batches (retry_run_id)",
    """ALTER TABLE nomaflow.step_runs
         ADD COLUMN checkpoint jsonb,
         ADD COLUMN watermarks jsonb""",
)
UNDO: tuple[str, ...] = (
    "ALTER TABLE nomaflow.step_runs DROP COLUMN checkpoint, DROP COLUMN watermarks",
    "DROP TABLE nomaflow.failed_batches",
    "DROP TABLE nomaflow.watermarks",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
