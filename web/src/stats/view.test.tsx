import { beforeEach, expect, test } from "vitest";
import type { StatsPage, StatsUsage, UsageRow } from "../api_types.ts";
import { createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { now } from "../time.ts";
import type { Plot, PlotOptions } from "./plot.ts";
import { StatsView } from "./view.tsx";

const usageRow = (name: string, change: Partial<UsageRow> = {}): UsageRow => ({
  name,
  requests: 1,
  failures: 0,
  unpriced: 0,
  work_tokens: 18,
  input_tokens: 10,
  output_tokens: 5,
  cache_write_tokens: 3,
  cache_read_tokens: 100,
  cost_usd: 0.5,
  ...change,
});

function createPage(change: Partial<StatsPage> = {}): StatsPage {
  const at = Array.from({ length: 60 }, (_, slot) => 1_700_000_000 + slot * 60);
  const turns = at.map((_, slot) => slot % 3);
  const series = { turns, inbox: turns, inbox_max: turns };
  const rest = { totals: {}, units: {}, tools: { "<img src=x onerror=alert(1)>": 3 } };
  return { agent: "*", from: "2026-11-20T12:00:00Z", step_s: 60, at, series, ...rest, ...change };
}

function createUsage(change: Partial<StatsUsage> = {}): StatsUsage {
  const agents = [usageRow("alice"), usageRow("bob", { unpriced: 1, cost_usd: 0 })];
  const rest = { days: [usageRow("2026-11-20")], models: [usageRow("\u202eopus")], total: usageRow("total") };
  return { agent: "*", from: "2026-11-20T12:00:00Z", agents, ...rest, ...change };
}

/** A plot that draws nothing and remembers what it was told. */
function createPlots() {
  const plots: { options: PlotOptions; spans: PlotOptions["span"][]; closed: boolean }[] = [];
  const draw = (_: HTMLElement, options: PlotOptions): Plot => {
    const plot = { options, spans: [options.span], closed: false };
    plots.push(plot);
    return {
      update: (_stats, _drawing, span) => void plot.spans.push(span),
      point: () => {},
      close: () => {
        plot.closed = true;
      },
    };
  };
  return { plots, draw };
}

async function show(answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/stats": createPage(),
    "GET /api/stats/usage": createUsage(),
    ...answers,
  });
  const { plots, draw } = createPlots();
  const page = mount(app, <StatsView agent="*" draw={draw} />);
  await settle();
  return { app, plots, ...page };
}

beforeEach(() => {
  now.value = 1_700_003_600_000;
});

test("charts of what the hive tells are shown, with words, a table behind a fold, and no others", async () => {
  const { find, query } = await show();
  expect(find("chart-turns").querySelector('[data-testid="chart-summary"]')?.textContent).toMatch(
    /^60, most/,
  );
  expect(query("chart-notes")).toBeNull();
  const fold = find<HTMLDetailsElement>("chart-table");
  expect(fold.querySelector("table")).toBeNull();
  await settle(() => {
    fold.open = true;
    fold.dispatchEvent(new Event("toggle"));
  });
  expect(fold.querySelectorAll("tbody tr")).toHaveLength(60);
});

test("a zoom is of all charts, stays over new points, and ends", async () => {
  const { app, plots, find } = await show();
  const start = 1_700_000_000;
  await settle(() => plots[0]?.options.onZoom({ from: start + 600, to: start + 1200 }));
  const zoomed = { from: start + 600, to: start + 1200 };
  for (const plot of plots) expect(plot.spans.at(-1)).toEqual(zoomed);
  expect(find<HTMLAnchorElement>("csv-series").getAttribute("href")).toContain(
    "first=1700000600&last=1700001140",
  );

  const later = createPage();
  later.at = later.at.map((at) => at + 60);
  app.hive.answers["GET /api/stats"] = later;
  const told = plots[0]?.spans.length ?? 0;
  await settle(() => {
    now.value += 20_000;
  });
  expect(plots[0]?.spans.length).toBeGreaterThan(told);
  expect(plots[0]?.spans.at(-1)).toEqual(zoomed);
  expect(plots.some((plot) => plot.closed)).toBe(false);

  await settle(() => find("zoom-out").click());
  expect(plots[0]?.spans.at(-1)).toEqual({ from: start + 60, to: start + 3660 });
});

test("another range is asked for, and the charts stay until it is there", async () => {
  const { app, find, query } = await show();
  let answer: (page: StatsPage) => void = () => {};
  app.hive.answers["GET /api/stats"] = () =>
    new Promise<StatsPage>((resolve) => {
      answer = resolve;
    });
  await settle(() => find("range-7d").click());
  expect(app.hive.calls.some((call) => call.path.includes("since=7d"))).toBe(true);
  expect(query("chart-turns")).not.toBeNull();
  await settle(() => answer(createPage({ series: { turns: Array(60).fill(0) } })));
  expect(find("chart-turns").textContent).toContain("0");
  expect(query("chart-inbox")).toBeNull();
});

test("names of agents, models and tools are text, and a price that is not known is said to be", async () => {
  const { root, find } = await show();
  expect(root.querySelector("img")).toBeNull();
  expect(find("tools").textContent).toContain("<img src=x onerror=alert(1)>");
  expect(find("usage-models").textContent).toContain("⟨U+202E⟩opus");
  expect(find("usage-agents").textContent).toContain("unknown");
  expect(find("usage-agents").textContent).toContain("$0.50");
});

test("stats that cannot be fetched are said to be, and what was there stays", async () => {
  const { app, find, query } = await show();
  app.hive.answers["GET /api/stats"] = () =>
    Response.json({ code: "x", message: "no disk" }, { status: 507 });
  await settle(() => {
    now.value += 20_000;
  });
  expect(find("fetch-failed").textContent).toContain("no disk");
  expect(query("chart-turns")).not.toBeNull();
});
