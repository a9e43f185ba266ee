/** The small form that asks for the bearer token. */

import { type FormEvent, useState } from "react";
import { ask, Refused } from "./api";
import mark from "./mark.svg";

interface Props {
  /** Why the person is asked again, in a sentence. */
  reason: string | null;
  onToken(token: string): void;
}

export function SignIn({ reason, onToken }: Props) {
  const [problem, setProblem] = useState(reason);
  const [busy, setBusy] = useState(false);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const token = String(new FormData(event.currentTarget).get("token")).trim();
    setBusy(true);
    try {
      await ask(token, { query: "{ __typename }" });
      onToken(token);
    } catch (error) {
      setProblem(
        error instanceof Refused
          ? "The API does not know this token. Look for a stray space or a missing end."
          : (error as Error).message,
      );
      setBusy(false);
    }
  }

  return (
    <main className="door">
      <form className="card" onSubmit={submit}>
        <img src={mark} alt="" width="44" height="44" />
        <h1>Nomaflow</h1>
        <p className="lead">Ask the API anything: jobs, runs, steps, and what happens right now.</p>
        <label htmlFor="token">Bearer token</label>
        <input
          id="token"
          name="token"
          type="password"
          autoComplete="off"
          spellCheck={false}
          autoFocus
          required
          placeholder="nf_…"
          aria-describedby="token-help"
          aria-invalid={problem !== null}
        />
        {problem !== null && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" disabled={busy}>
          {busy ? "Signing in…" : "Sign in"}
        </button>
        <p className="help" id="token-help">
          <code>nomaflow up</code> prints the admin token and keeps it in the file{" "}
          <code>admin-token</code> of its home folder. This tab forgets it when it is closed.
        </p>
      </form>
    </main>
  );
}
