/** GraphiQL, signed in. */

import { GraphiQL } from "graphiql";
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import { useEffect, useMemo } from "react";
import { connect, fetcher } from "./api";
import { examples } from "./examples";
import mark from "./mark.svg";
import { NewestRun } from "./newest_run";

interface Props {
  token: string;
  onRefused(): void;
  onSignOut(): void;
}

export function Workbench({ token, onRefused, onSignOut }: Props) {
  const client = useMemo(() => connect(token), [token]);
  useEffect(() => () => void client.dispose(), [client]);
  const fetch = useMemo(() => fetcher(token, client, onRefused), [token, client, onRefused]);

  return (
    <GraphiQL
      fetcher={fetch}
      defaultTabs={examples}
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
