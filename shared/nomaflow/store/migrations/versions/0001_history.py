"""Jobs, schedules, slots, runs and everything a run leaves behind."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RUN_STATUSES = "'queued','running','succeeded','partial','failed','aborted','skipped'"
STEP_STATUSES = "'pending','running','retrying','succeeded','failed','aborted','skipped'"

STATEMENTS = (
    "CREATE SEQUENCE nomaflow.fence",
    """
    CREATE TABLE nomaflow.jobs (
      id uuid PRIMARY KEY DEFAULT uuidv7(),
      name text NOT NULL,
      origin text NOT NULL CONSTRAINT job_origin CHECK (origin IN ('file', 'api')),
      app text NOT NULL,
      tags text[] NOT NULL DEFAULT '{}',
      description text NOT NULL DEFAULT '',
      revision int NOT NULL DEFAULT 1,
      definition jsonb NOT NULL,
      declared_enabled boolean NOT NULL DEFAULT true,
      switched_on boolean NOT NULL DEFAULT true,
      enabled boolean NOT NULL GENERATED ALWAYS AS (declared_enabled AND switched_on) STORED,
      shadowed boolean NOT NULL DEFAULT false,
      source_file text,
      source_line int,
      paused_until timestamptz,
      created_at timestamptz NOT NULL DEFAULT now(),
      updated_at timestamptz NOT NULL DEFAULT now(),
      updated_by text NOT NULL,
      deleted_at timestamptz
    )""",
    "CREATE UNIQUE INDEX jobs_one_per_origin ON nomaflow.jobs (name, origin)",
    """CREATE UNIQUE INDEX jobs_one_in_force ON nomaflow.jobs (name)
       WHERE deleted_at IS NULL AND NOT shadowed""",
    """
    CREATE TABLE nomaflow.job_revisions (
      job_id uuid NOT NULL REFERENCES nomaflow.jobs (id) ON DELETE CASCADE,
      revision int NOT NULL,
      definition jsonb NOT NULL,
      at timestamptz NOT NULL DEFAULT now(),
      by text NOT NULL,
      PRIMARY KEY (job_id, revision)
    )""",
    """
    CREATE TABLE nomaflow.schedules (
      id uuid PRIMARY KEY DEFAULT uuidv7(),
      job_id uuid NOT NULL REFERENCES nomaflow.jobs (id) ON DELETE CASCADE,
      name text NOT NULL,
      cron text,
      every_seconds double precision,
      timezone text NOT NULL DEFAULT 'UTC',
      params jsonb NOT NULL DEFAULT '{}',
      declared_enabled boolean NOT NULL DEFAULT true,
      switched_on boolean NOT NULL DEFAULT true,
      fire_on_start boolean NOT NULL DEFAULT false,
      max_fires int NOT NULL DEFAULT 0,
      preset text,
      next_fire_at timestamptz,
      last_fire_at timestamptz,
      fire_count int NOT NULL DEFAULT 0,
      retired_at timestamptz,
      CONSTRAINT schedule_cron_or_interval CHECK ((cron IS NULL) <> (every_seconds IS NULL)),
      CONSTRAINT schedule_interval_positive CHECK (every_seconds > 0)
    )""",
    "CREATE UNIQUE INDEX schedules_one_name ON nomaflow.schedules (job_id, name)",
    """CREATE INDEX schedules_due ON nomaflow.schedules (next_fire_at)
       WHERE next_fire_at IS NOT NULL""",
    f"""
    CREATE TABLE nomaflow.runs (
      id uuid PRIMARY KEY DEFAULT uuidv7(),
      kind text NOT NULL DEFAULT 'job'
        CONSTRAINT run_kind CHECK (kind IN ('job', 'external', 'system')),
      job_id uuid REFERENCES nomaflow.jobs (id) ON DELETE SET NULL,
      job_name text NOT NULL,
      job_revision int,
      status text NOT NULL DEFAULT 'queued'
        CONSTRAINT run_status CHECK (status IN ({RUN_STATUSES})),
      reason text,
      trigger text NOT NULL,
      triggered_by text NOT NULL,
      principal text NOT NULL DEFAULT '',
      schedule_id uuid REFERENCES nomaflow.schedules (id) ON DELETE SET NULL,
      schedule_name text,
      scheduled_for timestamptz,
      queued_at timestamptz NOT NULL DEFAULT now(),
      not_before timestamptz,
      started_at timestamptz,
      finished_at timestamptz,
      params jsonb NOT NULL DEFAULT '{{}}',
      overrides jsonb NOT NULL DEFAULT '{{}}',
      log_level text NOT NULL DEFAULT 'INFO'
        CONSTRAINT run_log_level CHECK (log_level IN ('DEBUG', 'INFO', 'WARNING', 'ERROR')),
      dry_run boolean NOT NULL DEFAULT false,
      worker_tag text NOT NULL DEFAULT 'default',
      priority int NOT NULL DEFAULT 0,
      serial boolean NOT NULL DEFAULT false,
      lock text,
      idempotency_key text,
      replay_of uuid,
      parent_run_id uuid,
      lease_owner text,
      lease_expires_at timestamptz,
      fence bigint NOT NULL DEFAULT 0,
      interruptions int NOT NULL DEFAULT 0,
      abort_requested_at timestamptz,
      abort_requested_by text,
      abort_reason text,
      rows_affected bigint,
      error jsonb,
      worker text,
      long_run_alerted_at timestamptz,
      seq bigint NOT NULL DEFAULT 0,
      log_lines bigint NOT NULL DEFAULT 0,
      CONSTRAINT run_leased_while_running CHECK (
        kind = 'external' OR (status = 'running') = (lease_expires_at IS NOT NULL)),
      CONSTRAINT run_owned_while_leased CHECK (
        (lease_owner IS NULL) = (lease_expires_at IS NULL)),
      CONSTRAINT run_finished_when_final CHECK (
        (finished_at IS NOT NULL) = (status NOT IN ('queued', 'running'))),
      CONSTRAINT run_started_when_running CHECK (status <> 'running' OR started_at IS NOT NULL),
      CONSTRAINT run_waits_only_queued CHECK (not_before IS NULL OR status = 'queued'),
      CONSTRAINT run_reason_when_skipped CHECK (status <> 'skipped' OR reason IS NOT NULL)
    ) WITH (fillfactor = 80)""",
    """CREATE UNIQUE INDEX runs_one_per_slot ON nomaflow.runs (schedule_id, scheduled_for)
       WHERE schedule_id IS NOT NULL""",
    """CREATE UNIQUE INDEX runs_one_per_key ON nomaflow.runs (job_name, idempotency_key)
       WHERE idempotency_key IS NOT NULL""",
    """CREATE INDEX runs_waiting ON nomaflow.runs (priority DESC, queued_at)
       WHERE status = 'queued'""",
    "CREATE INDEX runs_running ON nomaflow.runs (id) WHERE status = 'running'",
    """CREATE INDEX runs_in_flight ON nomaflow.runs (job_id)
       WHERE status IN ('queued', 'running')""",
    # Once started, a run keeps its turn and its lock until it is over, back-offs included.
    """CREATE UNIQUE INDEX runs_one_turn ON nomaflow.runs (job_id)
       WHERE serial AND started_at IS NOT NULL AND finished_at IS NULL""",
    """CREATE UNIQUE INDEX runs_one_holder ON nomaflow.runs (lock)
       WHERE lock IS NOT NULL AND started_at IS NOT NULL AND finished_at IS NULL""",
    "CREATE INDEX runs_newest ON nomaflow.runs (queued_at DESC, id DESC)",
    "CREATE INDEX runs_of_job ON nomaflow.runs (job_name, queued_at DESC, id DESC)",
    "CREATE INDEX runs_of_status ON nomaflow.runs (status, queued_at DESC, id DESC)",
    "CREATE INDEX runs_finished ON nomaflow.runs (finished_at DESC, id DESC)",
    """CREATE INDEX runs_of_parent ON nomaflow.runs (parent_run_id, queued_at)
       WHERE parent_run_id IS NOT NULL""",
    """
    CREATE TABLE nomaflow.slots (
      schedule_id uuid NOT NULL REFERENCES nomaflow.schedules (id) ON DELETE CASCADE,
      due_at timestamptz NOT NULL,
      outcome text NOT NULL
        CONSTRAINT slot_outcome CHECK (outcome IN ('fired', 'skipped', 'missed')),
      reason text,
      run_id uuid REFERENCES nomaflow.runs (id) ON DELETE SET NULL,
      until timestamptz,
      count int NOT NULL DEFAULT 1,
      at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (schedule_id, due_at),
      CONSTRAINT slot_reason_unless_fired CHECK (outcome = 'fired' OR reason IS NOT NULL)
    )""",
    "CREATE INDEX slots_of_run ON nomaflow.slots (run_id)",
    f"""
    CREATE TABLE nomaflow.step_runs (
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      position int NOT NULL,
      name text NOT NULL,
      type text NOT NULL,
      status text NOT NULL DEFAULT 'pending'
        CONSTRAINT step_status CHECK (status IN ({STEP_STATUSES})),
      reason text,
      attempt int NOT NULL DEFAULT 0,
      tries int NOT NULL DEFAULT 0,
      interruptions int NOT NULL DEFAULT 0,
      try_started_at timestamptz,
      started_at timestamptz,
      finished_at timestamptz,
      input jsonb,
      output jsonb,
      summary text NOT NULL DEFAULT '',
      rows_affected bigint,
      progress jsonb,
      error jsonb,
      backends jsonb,
      PRIMARY KEY (run_id, position),
      CONSTRAINT step_finished_when_final CHECK (
        (finished_at IS NOT NULL) = (status NOT IN ('pending', 'running', 'retrying'))),
      CONSTRAINT step_started_when_running CHECK (
        status <> 'running' OR try_started_at IS NOT NULL),
      CONSTRAINT step_tried_when_succeeded CHECK (status <> 'succeeded' OR started_at IS NOT NULL),
      CONSTRAINT step_reason_when_skipped CHECK (status <> 'skipped' OR reason IS NOT NULL)
    ) WITH (fillfactor = 80)""",
    """
    CREATE TABLE nomaflow.step_outputs (
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      position int NOT NULL,
      output jsonb NOT NULL,
      PRIMARY KEY (run_id, position)
    )""",
    """
    CREATE TABLE nomaflow.attempts (
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      position int NOT NULL,
      number int NOT NULL,
      status text NOT NULL
        CONSTRAINT attempt_status CHECK (status IN ('succeeded', 'failed', 'aborted')),
      started_at timestamptz,
      finished_at timestamptz,
      error jsonb,
      worker text,
      PRIMARY KEY (run_id, position, number)
    )""",
    """
    CREATE TABLE nomaflow.run_events (
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      seq bigint NOT NULL,
      at timestamptz NOT NULL DEFAULT now(),
      kind text NOT NULL
        CONSTRAINT event_kind CHECK (kind IN ('run', 'step', 'progress')),
      payload jsonb NOT NULL,
      PRIMARY KEY (run_id, seq)
    )""",
    """
    CREATE TABLE nomaflow.log_lines (
      run_id uuid NOT NULL REFERENCES nomaflow.runs (id) ON DELETE CASCADE,
      seq bigint NOT NULL,
      at timestamptz NOT NULL DEFAULT now(),
      level smallint NOT NULL,
      step text,
      message text NOT NULL,
      PRIMARY KEY (run_id, seq)
    )""",
    """
    CREATE TABLE nomaflow.deliveries (
      id uuid PRIMARY KEY DEFAULT uuidv7(),
      run_id uuid,
      job_name text NOT NULL,
      event text NOT NULL,
      channel text NOT NULL,
      recipient text NOT NULL DEFAULT '',
      payload jsonb NOT NULL,
      status text NOT NULL DEFAULT 'pending'
        CONSTRAINT delivery_status CHECK (status IN ('pending', 'sent', 'failed')),
      attempts int NOT NULL DEFAULT 0,
      next_at timestamptz DEFAULT now(),
      error text,
      at timestamptz NOT NULL DEFAULT now(),
      sent_at timestamptz
    )""",
    """CREATE UNIQUE INDEX deliveries_once ON nomaflow.deliveries
       (run_id, event, channel, recipient) WHERE run_id IS NOT NULL""",
    "CREATE INDEX deliveries_due ON nomaflow.deliveries (next_at) WHERE status = 'pending'",
    """
    CREATE TABLE nomaflow.processes (
      name text PRIMARY KEY,
      kind text NOT NULL CONSTRAINT process_kind CHECK (kind IN ('api', 'scheduler', 'worker')),
      state text NOT NULL DEFAULT 'active',
      started_at timestamptz NOT NULL DEFAULT now(),
      seen_at timestamptz NOT NULL DEFAULT now(),
      capacity int NOT NULL DEFAULT 0,
      running int NOT NULL DEFAULT 0,
      details jsonb NOT NULL DEFAULT '{}'
    )""",
    """
    CREATE TABLE nomaflow.catalog_problems (
      id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
      file text NOT NULL,
      line int,
      path text[] NOT NULL DEFAULT '{}',
      message text NOT NULL,
      at timestamptz NOT NULL DEFAULT now()
    )""",
    """
    CREATE TABLE nomaflow.connector_tests (
      connector text PRIMARY KEY,
      ok boolean NOT NULL,
      at timestamptz NOT NULL DEFAULT now(),
      milliseconds double precision NOT NULL,
      message text NOT NULL
    )""",
)


def upgrade() -> None:
    """Create everything; the schema itself exists, since the version table lives in it."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """There is nothing before the first revision; drop the schema by hand."""
    raise NotImplementedError
