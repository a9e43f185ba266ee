"""Calendars, blackouts, catching up, and due times that wait."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SLOT_OUTCOMES = "'fired','caught_up','skipped','missed','waiting','postponed'"

STATEMENTS: tuple[str, ...] = (
    """
    CREATE TABLE nomaflow.calendars (
      name text PRIMARY KEY,
      definition jsonb NOT NULL,
      origin text NOT NULL CONSTRAINT calendar_origin CHECK (origin IN ('file', 'api'))
    )""",
    """
    CREATE TABLE nomaflow.blackouts (
      name text PRIMARY KEY,
      from_at timestamptz NOT NULL,
      until timestamptz NOT NULL,
      jobs text[] NOT NULL DEFAULT '{}',
      connectors text[] NOT NULL DEFAULT '{}',
      action text NOT NULL CONSTRAINT blackout_action CHECK (action IN ('skip', 'postpone')),
      origin text NOT NULL CONSTRAINT blackout_origin CHECK (origin IN ('file', 'api')),
      by text NOT NULL,
      at timestamptz NOT NULL DEFAULT now(),
      CONSTRAINT blackout_has_an_end CHECK (from_at < until)
    )""",
    "CREATE INDEX blackouts_ending ON nomaflow.blackouts (until)",
    """
    CREATE TABLE nomaflow.scheduler_switch (
      id boolean PRIMARY KEY DEFAULT true CONSTRAINT switch_is_one CHECK (id),
      paused boolean NOT NULL DEFAULT false,
      paused_from timestamptz,
      paused_until timestamptz,
      by text NOT NULL,
      at timestamptz NOT NULL DEFAULT now()
    )""",
    "INSERT INTO nomaflow.scheduler_switch (by) VALUES ('nomaflow')",
    "ALTER TABLE nomaflow.jobs ADD COLUMN paused_from timestamptz",
    """
    ALTER TABLE nomaflow.schedules
      ADD COLUMN catch_up text NOT NULL DEFAULT 'none'
        CONSTRAINT schedule_catch_up CHECK (catch_up IN ('none', 'last', 'all')),
      ADD COLUMN catch_up_limit int NOT NULL DEFAULT 10
        CONSTRAINT schedule_catch_up_limit CHECK (catch_up_limit > 0),
      ADD COLUMN catch_up_window_seconds double precision,
      ADD COLUMN jitter_seconds double precision NOT NULL DEFAULT 0,
      ADD COLUMN calendar text,
      ADD COLUMN look_at timestamptz,
      ADD COLUMN warning text""",
    "UPDATE nomaflow.schedules SET look_at = next_fire_at",
    """ALTER TABLE nomaflow.schedules ADD CONSTRAINT schedule_looked_at_when_due
       CHECK ((look_at IS NULL) = (next_fire_at IS NULL))""",
    "DROP INDEX nomaflow.schedules_due",
    "CREATE INDEX schedules_due ON nomaflow.schedules (look_at) WHERE look_at IS NOT NULL",
    """
    ALTER TABLE nomaflow.slots
      ADD COLUMN look_at timestamptz,
      ADD COLUMN deadline timestamptz,
      DROP CONSTRAINT slot_outcome,
      DROP CONSTRAINT slot_reason_unless_fired""",
    f"""
    ALTER TABLE nomaflow.slots
      ADD CONSTRAINT slot_outcome CHECK (outcome IN ({SLOT_OUTCOMES})),
      ADD CONSTRAINT slot_reason_unless_fired CHECK (
        outcome IN ('fired', 'caught_up') OR reason IS NOT NULL),
      ADD CONSTRAINT slot_looked_at_while_open CHECK (
        (look_at IS NOT NULL) = (outcome IN ('waiting', 'postponed')))""",
    "CREATE INDEX slots_open ON nomaflow.slots (look_at) WHERE look_at IS NOT NULL",
    # What a dependency asks for: how the job last ended, and when it last succeeded.
    """CREATE INDEX runs_ended ON nomaflow.runs (job_name, finished_at DESC)
       WHERE status IN ('succeeded', 'partial', 'failed', 'aborted')""",
)
UNDO: tuple[str, ...] = (
    "DROP INDEX nomaflow.runs_ended",
    "DROP INDEX nomaflow.slots_open",
    """
    UPDATE nomaflow.slots SET look_at = NULL,
      outcome = CASE WHEN outcome = 'caught_up' THEN 'fired' ELSE 'missed' END,
      reason = coalesce(reason, 'missed: it waited when this version was taken away')
    WHERE outcome IN ('caught_up', 'waiting', 'postponed')""",
    """
    ALTER TABLE nomaflow.slots
      DROP CONSTRAINT slot_looked_at_while_open,
      DROP CONSTRAINT slot_reason_unless_fired,
      DROP CONSTRAINT slot_outcome,
      DROP COLUMN look_at,
      DROP COLUMN deadline""",
    """
    ALTER TABLE nomaflow.slots
      ADD CONSTRAINT slot_outcome CHECK (outcome IN ('fired', 'skipped', 'missed')),
      ADD CONSTRAINT slot_reason_unless_fired CHECK (outcome = 'fired' OR reason IS NOT NULL)""",
    "DROP INDEX nomaflow.schedules_due",
    "ALTER TABLE nomaflow.schedules DROP CONSTRAINT schedule_looked_at_when_due",
    """
    ALTER TABLE nomaflow.schedules DROP COLUMN catch_up, DROP COLUMN catch_up_limit,
      DROP COLUMN catch_up_window_seconds, DROP COLUMN jitter_seconds, DROP COLUMN calendar,
      DROP COLUMN look_at, DROP COLUMN warning""",
    """CREATE INDEX schedules_due ON nomaflow.schedules (next_fire_at)
       WHERE next_fire_at IS NOT NULL""",
    "ALTER TABLE nomaflow.jobs DROP COLUMN paused_from",
    "DROP TABLE nomaflow.scheduler_switch, nomaflow.blackouts, nomaflow.calendars",
)


def upgrade() -> None:
    """Create what this version needs."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again."""
    for statement in UNDO:
        op.execute(statement)
