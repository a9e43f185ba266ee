import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` serves the page with reload and passes everything else on to a running API.
const api = "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the API may live under a path of someone's reverse proxy.
  base: "./",
  plugins: [react()],
  worker: { format: "es" },
  build: {
    outDir: "../nomaflow_api/static",
    emptyOutDir: true,
    target: "es2023",
    chunkSizeWarningLimit: 4000, // the editor (Monaco) is one chunk, loaded by this page alone
    rolldownOptions: {
      input: { graphiql: "graphiql.html" },
      onLog(level, log, report) {
        // "use no memo" is a word to React's compiler, which ran before GraphiQL was published.
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") report(level, log);
      },
    },
  },
  server: { proxy: { "/graphql": { target: api, ws: true } } },
});
