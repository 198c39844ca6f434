import { defineConfig } from "vitest/config";
import { drawIcons } from "./icons.ts";
import { xtermStyles } from "./xterm_styles.ts";

export default defineConfig({
  plugins: [drawIcons(), xtermStyles()],
  build: {
    outDir: "../src/hyperhive/host/api/pages",
    emptyOutDir: true,
    // The pages run under `default-src 'self'`: nothing may be inlined as a data: address or an inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    rolldownOptions: {
      input: { main: "index.html", sw: "src/service_worker.ts" },
      output: {
        // The worker keeps its name: browsers look for a new version under the old one, and it rules what is below it.
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  // The tests read the recordings that the Python tests have.
  server: { fs: { allow: [".", "../tests/data"] } },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    // Far more than any of them takes, for a machine that is busy with others.
    testTimeout: 30_000,
  },
});
