/** Fills the newest run's id into the example that watches one run, while nobody typed there. */

import { useGraphiQL } from "@graphiql/react";
import { useEffect, useRef } from "react";
import { ask } from "./api";
import { NO_RUN_YET, WATCH_RUN } from "./examples";

const NEWEST = "query NewestRun { runs(first: 1) { nodes { id } } }";

interface Answer {
  runs: { nodes: { id: string }[] };
}

export function NewestRun({ token }: { token: string }) {
  const { variableEditor, tabs, activeTabIndex } = useGraphiQL((state) => ({
    variableEditor: state.variableEditor,
    tabs: state.tabs,
    activeTabIndex: state.activeTabIndex,
  }));
  const opened = tabs[activeTabIndex]?.operationName === WATCH_RUN;
  const ours = useRef(NO_RUN_YET);

  useEffect(() => {
    if (!opened || !variableEditor || !isUntouched(variableEditor.getValue(), ours.current)) return;
    let gone = false;
    ask(token, { query: NEWEST })
      .then(({ data }) => {
        const id = (data as unknown as Answer | null)?.runs.nodes[0]?.id;
        if (gone || !id || !isUntouched(variableEditor.getValue(), ours.current)) return;
        ours.current = JSON.stringify({ run: id }, null, 2);
        variableEditor.setValue(ours.current);
      })
      .catch(() => undefined); // the example then stays as it is, to be filled by hand
    return () => {
      gone = true;
    };
  }, [opened, variableEditor, token]);

  return null;
}

function isUntouched(text: string, ours: string): boolean {
  const bare = text.replace(/\s/g, "");
  return [ours, NO_RUN_YET].some((known) => known.replace(/\s/g, "") === bare);
}
