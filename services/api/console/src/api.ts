/** How this page talks to the API: queries by HTTP, subscriptions by graphql-transport-ws. */

import type { Fetcher, FetcherParams } from "@graphiql/toolkit";
import {
  type ExecutionResult,
  Kind,
  type OperationDefinitionNode,
  OperationTypeNode,
  parse,
} from "graphql";
import { type Client, createClient } from "graphql-ws";

const SHOWN_RESULTS = 200;
const PAUSE_BETWEEN_PAINTS_MS = 80;

/** The API does not know the token, or the token may not do this at all. */
export class Refused extends Error {}

/** Relative to the page, as the API may live under a path of someone's reverse proxy. */
export function address(): URL {
  return new URL("graphql", document.baseURI);
}

export async function ask(token: string, request: FetcherParams): Promise<ExecutionResult> {
  let response: Response;
  try {
    response = await fetch(address(), {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/graphql-response+json, application/json",
        authorization: `Bearer ${token}`,
      },
      body: JSON.stringify(request),
    });
  } catch {
    throw new Error(`The API does not answer at ${address()}. Is it running?`);
  }
  const answer = await json(response);
  const code = answer?.errors?.[0]?.extensions?.["code"];
  if (response.status === 401 || code === "UNAUTHENTICATED") {
    throw new Refused("The API does not know this token.");
  }
  if (answer === null) {
    throw new Error(`The API answered ${response.status} ${response.statusText} without JSON.`);
  }
  return answer;
}

async function json(response: Response): Promise<ExecutionResult | null> {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** One socket for all subscriptions of the page, open only while one of them runs. */
export function connect(token: string): Client {
  const url = address();
  url.protocol = url.protocol.replace("http", "ws");
  return createClient({
    url: url.href,
    connectionParams: { authorization: `Bearer ${token}` },
    // A new try would tell runEvents from the start again; the person at the page decides.
    retryAttempts: 0,
  });
}

export function fetcher(token: string, client: Client, onRefused: () => void): Fetcher {
  return (asked) => {
    const request = settled(asked);
    if (isSubscription(request)) return watch(client, request) as ReturnType<Fetcher>;
    return ask(token, request).catch((error: unknown) => {
      if (error instanceof Refused) onRefused();
      throw error;
    });
  };
}

/** GraphiQL learns an operation's name a moment after a tab is opened; its text knows it at once. */
function settled(request: FetcherParams): FetcherParams {
  const [only, ...more] = operations(request.query);
  if (only === undefined || more.length > 0) return request;
  return { ...request, operationName: only.name?.value ?? null };
}

function operations(query: string): OperationDefinitionNode[] {
  try {
    return parse(query).definitions.filter((node) => node.kind === Kind.OPERATION_DEFINITION);
  } catch {
    return []; // let the API say what is wrong with it
  }
}

function isSubscription({ query, operationName }: FetcherParams): boolean {
  const all = operations(query);
  const chosen = all.find((each) => each.name?.value === operationName) ?? all[0];
  return chosen?.operation === OperationTypeNode.SUBSCRIPTION;
}

/** What the response pane shows of a subscription: GraphiQL alone would keep only the last result. */
interface Heard {
  received: number;
  "newest first": unknown[];
}

interface Sink {
  next(value: Heard): void;
  error(error: unknown): void;
  complete(): void;
}

/** GraphiQL's kind of observable: unlike a generator, it can be stopped while nothing happens. */
function watch(client: Client, request: FetcherParams): unknown {
  const { query, variables, operationName } = request;
  return {
    subscribe(sink: Sink) {
      const heard: Heard = { received: 0, "newest first": [] };
      let timer: ReturnType<typeof setTimeout> | undefined;
      const paint = () => {
        timer = undefined;
        sink.next(heard);
      };
      const stop = client.subscribe(
        { query, variables, operationName: operationName ?? null },
        {
          next(result) {
            heard.received += 1;
            heard["newest first"].unshift(result.errors ? result : result.data);
            heard["newest first"].splice(SHOWN_RESULTS);
            timer ??= setTimeout(paint, PAUSE_BETWEEN_PAINTS_MS);
          },
          error(problem) {
            clearTimeout(timer);
            sink.error(sentence(problem));
          },
          complete() {
            clearTimeout(timer);
            if (heard.received > 0) paint();
            sink.complete();
          },
        },
      );
      return {
        unsubscribe() {
          clearTimeout(timer);
          stop();
        },
      };
    },
  };
}

function sentence(problem: unknown): unknown {
  if (problem instanceof CloseEvent) {
    const why = problem.reason || "no reason given";
    return new Error(`The live connection ended (${problem.code}: ${why}).`);
  }
  if (problem instanceof Event) {
    return new Error(`No live connection to ${address()}. Is the API running?`);
  }
  return problem;
}
