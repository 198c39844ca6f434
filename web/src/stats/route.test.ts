import { expect, test } from "vitest";
import { parseRoute, statsPath } from "../route.ts";

test("stats have a page for the hive and for each agent, and none for what is no name", () => {
  for (const path of ["/stats", "/stats/"]) expect(parseRoute(path)).toEqual({ page: "stats", agent: "*" });
  expect(parseRoute("/stats/alice/")).toEqual({ page: "stats", agent: "alice" });
  for (const path of ["/stats/Alice", "/stats/a/b", "/stats/../x", "/statsx"])
    expect(parseRoute(path)).toEqual({ page: "unknown" });
  for (const agent of ["*", "alice"]) expect(parseRoute(statsPath(agent))).toEqual({ page: "stats", agent });
});
