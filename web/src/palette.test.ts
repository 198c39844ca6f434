import { expect, test } from "vitest";
import { findItems, listItems, type PaletteItem } from "./palette.ts";
import { createAgent, createPark, createTestApp } from "./testing/stand_in.tsx";

const item = (words: string, note = ""): PaletteItem => ({
  key: words,
  words,
  note,
  act: { kind: "go", to: "/" },
});
const find = (query: string, ...words: string[]) =>
  findItems(
    query,
    words.map((one) => item(one)),
  ).shown.map((one) => one.words);

test("nothing typed shows everything in its order", () => {
  expect(find("", "b", "a", "c")).toEqual(["b", "a", "c"]);
});

test("nothing typed keeps the order of long and short words: where one goes comes before what one does", () => {
  expect(find("", "the hive of all", "b", "a longer one")).toEqual(["the hive of all", "b", "a longer one"]);
});

test("every page and every part of an agent's page is gone to by its name", () => {
  const { store } = createTestApp();
  store.agents.put(createAgent("alice"));
  const to = (query: string) => {
    const act = findItems(query, listItems(store, query)).shown[0]?.act;
    return act?.kind === "go" ? act.to : "";
  };
  expect(to("stats")).toBe("/stats/");
  expect(to("stats alice")).toBe("/stats/alice/");
  expect(to("programs")).toBe("/programs/");
  expect(to("hive")).toBe("/");
  expect(to("alice")).toBe("/agent/alice/");
  for (const panel of ["notes", "files", "reminders", "config", "journal", "terminal"])
    expect(to(`${panel} alice`)).toBe(`/agent/alice/#${panel}`);
});

test("letters are found in their order with others between them, and whole words first", () => {
  expect(find("rsr", "researcher", "stop", "sorter")).toEqual(["researcher"]);
  expect(find("stop al", "stop malta", "stop alice", "start alice")).toEqual(["stop alice", "stop malta"]);
  expect(find("send bob", "send bobby a message", "send bob a message")).toEqual([
    "send bob a message",
    "send bobby a message",
  ]);
  expect(find("ALICE", "alice")).toEqual(["alice"]);
  expect(find("xyz", "alice")).toEqual([]);
});

test("a query is no pattern", () => {
  expect(find(".*", "alice")).toEqual([]);
  expect(find("(", "a (b)")).toEqual(["a (b)"]);
});

test("no more is shown than can be looked through, and how many there are is told", () => {
  const items = Array.from({ length: 500 }, (_, index) => item(`agent ${index}`));
  const { shown, count } = findItems("agent", items);
  expect([shown.length, count]).toEqual([60, 500]);
});

test("an agent can be done to what fits its state, and what hurts is asked about", async () => {
  const app = createTestApp({ "POST /api/agents/alice/pause": {} });
  app.store.agents.put(
    createAgent("alice"),
    createAgent("bob", { state: "stopped" }),
    createAgent("carol", { state: "parked", park: createPark("paused") }),
    createAgent("dave", { state: "parked", park: createPark("paused", { hive: true }) }),
  );
  const items = listItems(app.store, "");
  const verbs = (name: string) =>
    items.filter((one) => one.key.endsWith(`-${name}`) && one.act.kind === "run").map((one) => one.words);
  expect(verbs("alice")).toEqual(["pause alice", "restart alice", "stop alice"]);
  expect(verbs("bob")).toEqual(["start bob"]);
  expect(verbs("carol")).toEqual(["resume carol", "restart carol", "stop carol"]);
  expect(verbs("dave")).toEqual(["restart dave", "stop dave"]);
  const asked = items.filter((one) => one.act.kind === "run" && one.act.confirm).map((one) => one.words);
  expect(asked).toContain("stop alice");
  expect(asked).toContain("restart alice");
  expect(asked).not.toContain("pause alice");
  const pause = items.find((one) => one.words === "pause alice")?.act;
  expect(pause?.kind === "run" && (await pause.run())).toBe("alice is paused: its messages wait");
  expect(app.hive.calls.map((call) => `${call.method} ${call.path}`)).toEqual([
    "POST /api/agents/alice/pause",
  ]);
});

test("a number leads to whatever has a page under it", () => {
  const { store } = createTestApp();
  const to = (query: string) =>
    listItems(store, query)
      .slice(0, 3)
      .map((one) => (one.act.kind === "go" ? one.act.to : ""));
  expect(to("#12")).toEqual(["/threads/12", "/approvals/12", "/questions/12"]);
  expect(to("12")).toEqual(to("#12"));
  expect(to("12a")).not.toContain("/threads/12");
});
