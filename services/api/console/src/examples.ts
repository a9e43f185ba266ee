/** The tabs that a new visitor finds open; what they change is kept by their browser. */

import jobs from "./examples/jobs.graphql?raw";
import live from "./examples/live.graphql?raw";
import trigger from "./examples/trigger.graphql?raw";
import watch from "./examples/watch.graphql?raw";

const variables = (values: object): string => JSON.stringify(values, null, 2);

/** Variables of the tab that `newest_run.tsx` fills in. */
export const NO_RUN_YET = variables({ run: "" });
export const WATCH_RUN = "WatchRun";

export const examples = [
  { query: jobs, variables: variables({ first: 50 }) },
  { query: trigger, variables: variables({ job: "reporting-nightly-sync" }) },
  { query: watch, variables: NO_RUN_YET },
  { query: live },
];
