"""Runs that outside scripts execute, and the view of them that seed 004 describes."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE nomaflow.external_runs (
      run_id uuid PRIMARY KEY REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      source text NOT NULL,
      destination text NOT NULL,
      records_processed bigint
        CONSTRAINT external_records CHECK (records_processed >= 0),
      message text,
      heartbeat_at timestamptz,
      stale_seconds double precision NOT NULL
        CONSTRAINT external_stale_positive CHECK (stale_seconds > 0),
      stale_alerted_at timestamptz
    )""",
    # The watermark of whoever asks: the start of the newest success of a name.
    """CREATE INDEX runs_newest_success ON nomaflow.runs (job_name, finished_at DESC)
       WHERE status = 'succeeded' AND NOT dry_run""",
    # What outside scripts report is listed by itself, and few rows of all runs are theirs.
    """CREATE INDEX runs_external ON nomaflow.runs (queued_at DESC, id DESC)
       WHERE kind = 'external'""",
    """CREATE INDEX runs_external_open ON nomaflow.runs (id)
       WHERE kind = 'external' AND status = 'running'""",
    """
    CREATE VIEW nomaflow.jobs_api AS
    SELECT r.id, r.job_name AS name, r.started_at AS start_date, r.finished_at AS end_date,
      e.message,
      CASE r.status WHEN 'running' THEN 'in_progress' WHEN 'succeeded' THEN 'success'
        ELSE 'error' END AS status,
      e.records_processed, e.source, e.destination
    FROM nomaflow.runs r JOIN nomaflow.external_runs e ON e.run_id = r.id""",
)
UNDO = (
    "DROP VIEW nomaflow.jobs_api",
    "DROP INDEX nomaflow.runs_external_open",
    "DROP INDEX nomaflow.runs_external",
    "DROP INDEX nomaflow.runs_newest_success",
    "DROP TABLE nomaflow.external_runs",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
