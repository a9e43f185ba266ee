/** GraphiQL, signed in. */

import { GraphiQL } from "graphiql";
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import { useEffect, useMemo, useState } from "react";
import { connect, fetcher } from "./api";
import { examples } from "./examples";
import mark from "./mark.svg";
import { NewestRun } from "./newest_run";
import "./workbench.css";

const TABS = "graphiql:tabState"; // where GraphiQL keeps the tabs of a browser

interface Props {
  token: string;
  onRefused(): void;
  onSignOut(): void;
}

export function Workbench({ token, onRefused, onSignOut }: Props) {
  const client = useMemo(() => connect(token), [token]);
  useEffect(() => () => void client.dispose(), [client]);
  // GraphiQL forgets the variables of the first default tab, but not these.
  const [first] = useState(() => (localStorage.getItem(TABS) === null ? examples[0] : undefined));
  const fetch = useMemo(() => fetcher(token, client, onRefused), [token, client, onRefused]);

  return (
    <GraphiQL
      fetcher={fetch}
      defaultTabs={examples}
      {...(first && { initialVariables: first.variables })}
      // The token is the page's own; nothing else in a header is worth a tab.
      isHeadersEditorEnabled={false}
      shouldPersistHeaders={false}
      defaultEditorToolsVisibility="variables"
    >
      <GraphiQL.Logo>
        <span className="brand">
          <img src={mark} alt="" width="22" height="22" />
          Nomaflow
          <button type="button" className="sign-out" onClick={onSignOut}>
            Sign out
          </button>
        </span>
      </GraphiQL.Logo>
      <NewestRun token={token} />
    </GraphiQL>
  );
}
