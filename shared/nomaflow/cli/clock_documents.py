"""What the commands about time ask of the API, word for word; tests check it with the schema."""

CALENDAR = """
query Calendar($since: DateTime!, $until: DateTime!, $jobs: [String!], $first: Int!,
               $after: String) {
  calendar(since: $since, until: $until, jobs: $jobs, includeClosed: true, first: $first,
           after: $after) {
    nodes { at dueAt job schedule timezone tag collides closed }
    pageInfo { hasNextPage endCursor }
  }
}
"""

PREVIEW = """
query Preview($cron: String, $everySeconds: Float, $timezone: String, $first: Int,
              $after: DateTime) {
  schedulePreview(cron: $cron, everySeconds: $everySeconds, timezone: $timezone, first: $first,
                  after: $after) { fires description error remarks }
}
"""

SLOTS = """
query Slots($since: DateTime!, $until: DateTime!, $jobs: [String!], $outcomes: [String!],
            $last: Int!, $before: String) {
  slots(since: $since, until: $until, jobs: $jobs, outcomes: $outcomes, last: $last,
        before: $before) {
    nodes {
      job schedule timezone dueAt outcome reason until count lookAt waitsUntil
      run { id status reason }
      replay { id status }
    }
    pageInfo { hasPreviousPage startCursor }
  }
}
"""

PAUSE_JOB = """
mutation PauseJob($name: String!, $until: DateTime) {
  jobPause(name: $name, until: $until) {
    job { name pausedUntil nextFireAt }
    errors { code message path }
  }
}
"""

PAUSE_SCHEDULER = """
mutation PauseScheduler($paused: Boolean!) {
  schedulerPause(paused: $paused) { paused errors { code message path } }
}
"""

SWITCH = """
mutation Switch($job: String!, $schedule: String!, $enabled: Boolean!, $resetCount: Boolean) {
  scheduleEnable(job: $job, schedule: $schedule, enabled: $enabled, resetCount: $resetCount) {
    job { name schedules { name enabled fireCount nextFireAt } }
    errors { code message path }
  }
}
"""

_RUNS = "runs { id jobName status reason }"

INSTALL = f"""
mutation Install($force: Boolean) {{
  installRun(force: $force) {{ {_RUNS} done errors {{ code message path }} }}
}}
"""

INSTALLATION = f"query Installation {{ installation {{ forced done remaining {_RUNS} }} }}"

BLACKOUTS = """
query Blackouts { blackouts { name from until jobs connectors action origin by } }
"""

BLACKOUT_SET = """
mutation BlackoutSet($input: BlackoutInput!, $apply: Boolean) {
  blackoutSet(input: $input, apply: $apply) { effect applied errors { code message path } }
}
"""

BLACKOUT_DELETE = """
mutation BlackoutDelete($name: String!) {
  blackoutDelete(name: $name) { deleted errors { code message path } }
}
"""

ALL = (
    *(CALENDAR, PREVIEW, SLOTS, PAUSE_JOB, PAUSE_SCHEDULER, SWITCH),
    *(INSTALL, INSTALLATION, BLACKOUTS, BLACKOUT_SET, BLACKOUT_DELETE),
)
