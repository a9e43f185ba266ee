/** The page: the door while there is no token, GraphiQL behind it. */

import { lazy, Suspense, useCallback, useState } from "react";
import { SignIn } from "./sign_in";
import * as tokens from "./token";

// The editor is large; the door should not wait for it.
const loading = import("./workbench");
const Workbench = lazy(async () => ({ default: (await loading).Workbench }));

const given = tokens.read();

export function Page() {
  const [token, setToken] = useState(given);
  const [reason, setReason] = useState<string | null>(null);

  const enter = useCallback((accepted: string) => {
    tokens.keep(accepted);
    setToken(accepted);
  }, []);
  const leave = useCallback((why: string | null) => {
    tokens.forget();
    setReason(why);
    setToken(null);
  }, []);
  const refused = useCallback(() => leave("The API does not know this token any more."), [leave]);
  const signOut = useCallback(() => leave(null), [leave]);

  if (token === null) return <SignIn reason={reason} onToken={enter} />;
  return (
    <Suspense fallback={<p className="waiting">Opening the editor…</p>}>
      <Workbench token={token} onRefused={refused} onSignOut={signOut} />
    </Suspense>
  );
}
