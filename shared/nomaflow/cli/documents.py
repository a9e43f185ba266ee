"""What the command line asks of the API, word for word; tests check it against schema.graphql."""

_RUN = """
  id jobName status reason triggeredBy scheduledFor queuedAt startedAt finishedAt durationSeconds
  dryRun rowsAffected
"""

JOBS = """
query Jobs($after: String, $filter: JobFilter) {
  jobs(first: 100, after: $after, filter: $filter) {
    nodes {
      name app description tags enabled pausedUntil origin revision nextFireAt
      schedules { name cron everySeconds timezone enabled description nextFireAt }
      steps { name type enabled }
      lastRun { id status reason triggeredBy queuedAt startedAt finishedAt durationSeconds }
    }
    pageInfo { hasNextPage endCursor }
  }
}
"""

HISTORY = f"""
query History($first: Int!, $after: String, $filter: RunFilter) {{
  runs(first: $first, after: $after, filter: $filter) {{
    nodes {{ {_RUN} params waitingFor interruptions abortRequestedBy replayOf {{ id }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""

NAMES = """
query Names($after: String) {
  jobs(first: 100, after: $after) { nodes { name } pageInfo { hasNextPage endCursor } }
}
"""

JOB_EXISTS = "query JobExists($name: String!) { job(name: $name) { name } }"

NEWEST = """
query Newest($filter: RunFilter) { runs(first: 1, filter: $filter) { nodes { id } } }
"""

RUN = f"""
query Run($run: ID!) {{
  run(id: $run) {{
    {_RUN}
    steps {{
      position name type status reason summary startedAt finishedAt durationSeconds rowsAffected
      error {{ type message }}
    }}
  }}
}}
"""

TRIGGER = f"""
mutation Trigger($input: RunTriggerInput!) {{
  runTrigger(input: $input) {{
    created
    run {{ {_RUN} params }}
    errors {{ code message path }}
  }}
}}
"""

REPLAY = f"""
mutation Replay($input: RunReplayInput!) {{
  runReplay(input: $input) {{
    created
    run {{ {_RUN} params replayOf {{ id }} }}
    errors {{ code message path }}
  }}
}}
"""

ABORT = """
mutation Abort($run: ID!, $reason: String) {
  runAbort(run: $run, reason: $reason) {
    run { id jobName status reason abortRequestedBy }
    errors { code message path }
  }
}
"""

WATERMARKS = """
query Watermarks($name: String!) {
  job(name: $name) { watermarks { name value updatedAt run { id } } }
}
"""

WATERMARK_SET = """
mutation WatermarkSet($job: String!, $name: String!, $value: String) {
  watermarkSet(job: $job, name: $name, value: $value) {
    job { watermarks { name value updatedAt run { id } } }
    errors { code message path }
  }
}
"""

RETRY_FAILED = f"""
mutation RetryFailed($run: ID, $job: String, $step: String, $limit: Int) {{
  failedBatchRetry(run: $run, job: $job, step: $step, limit: $limit) {{
    retried
    runs {{ {_RUN} params }}
    errors {{ code message path }}
  }}
}}
"""

EVENTS = """
subscription Events($run: ID!, $after: Cursor) {
  runEvents(run: $run, after: $after) {
    __typename cursor at runId
    ... on RunChanged { status reason run { startedAt finishedAt error { type message } } }
    ... on StepChanged {
      step position stepStatus: status attempt
      stepRun { type summary reason startedAt finishedAt rowsAffected error { type message } }
    }
    ... on StepProgressed { step progress { done total unit message } }
    ... on LogsWritten { lines { cursor at level step message } }
  }
}
"""

LOGS = """
query Logs($run: ID!, $after: Cursor, $filter: LogFilter) {
  run(id: $run) {
    logs(first: 1000, after: $after, filter: $filter) {
      nodes { cursor at level step message }
      pageInfo { hasNextPage }
      endCursor
    }
  }
}
"""

LIVE_LOGS = """
subscription LiveLogs($run: ID!, $after: Cursor, $filter: LogFilter) {
  runLogs(run: $run, after: $after, filter: $filter) {
    cursor
    lines { cursor at level step message }
  }
}
"""

ALL = (
    *(JOBS, NAMES, HISTORY, JOB_EXISTS, NEWEST, RUN),
    *(TRIGGER, REPLAY, ABORT, EVENTS, LOGS, LIVE_LOGS),
    *(WATERMARKS, WATERMARK_SET, RETRY_FAILED),
)
