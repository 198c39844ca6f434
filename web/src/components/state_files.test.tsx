import { expect, test } from "vitest";
import type { StateEntry, StateFile } from "../api_types.ts";
import { createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { StateFiles } from "./state_files.tsx";

const createEntry = (name: string, change: Partial<StateEntry> = {}): StateEntry => ({
  name,
  kind: "file",
  size_bytes: 10,
  changed_at: "2026-11-20T12:00:00Z",
  ...change,
});

const createFile = (path: string, change: Partial<StateFile> = {}): StateFile => ({
  path,
  size_bytes: 10,
  text: "hello\n",
  cut: false,
  binary: false,
  ...change,
});

const FOLDERS: Record<string, StateEntry[]> = {
  "": [
    createEntry("notes.md"),
    createEntry("logs", { kind: "folder" }),
    createEntry("out", { kind: "link" }),
    createEntry("pipe", { kind: "other", changed_at: null }),
  ],
  logs: [createEntry("a&b=%2e#x")],
};

async function show(files: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents/alice/state": (url: URL) => {
      const path = url.searchParams.get("path") ?? "?";
      return { path, entries: FOLDERS[path] ?? [], more: path === "logs" };
    },
    "GET /api/agents/alice/state/file": (url: URL) => files[url.searchParams.get("path") ?? "?"],
  });
  const page = mount(app, <StateFiles agent="alice" />);
  await settle();
  const open = (testId: string) => settle(() => page.find(testId).querySelector("button")?.click());
  return { app, open, ...page };
}

test("folders and files can be opened, links and pipes cannot", async () => {
  const { find } = await show();
  expect(find("entry-notes.md").querySelector("button")).not.toBeNull();
  expect(find("entry-logs").querySelector("button")?.textContent).toBe("logs/");
  expect(find("entry-out").querySelector("button")).toBeNull();
  expect(find("entry-out").textContent).toContain("not followed");
  expect(find("entry-pipe").querySelector("button")).toBeNull();
});

test("a file below is asked for by its own name, and the trail leads back", async () => {
  const path = "logs/a&b=%2e#x";
  const { app, open, find, query } = await show({ [path]: createFile(path) });
  await open("entry-logs");
  expect(find("files-more").textContent).toContain("the first 1 by name");
  await open("entry-a&b=%2e#x");
  expect(find("files-text").textContent).toBe("hello\n");
  expect(document.activeElement).toBe(find("files-place"));
  const asked = new URL(app.hive.calls.at(-1)?.path ?? "", "http://hive.test");
  expect(asked.searchParams.get("path")).toBe(path);
  const link = new URL(find<HTMLAnchorElement>("files-save").href, "http://hive.test");
  expect([link.pathname, link.searchParams.get("path")]).toEqual(["/api/agents/alice/state/download", path]);
  const steps = [...find("files-trail").querySelectorAll("button")];
  expect(steps.map((step) => step.textContent)).toEqual(["/state", "logs"]);
  await settle(() => steps[0]?.click());
  expect(query("entry-notes.md")).not.toBeNull();
  expect(query("files-text")).toBeNull();
});

test("what hides in a text is shown, and a text is never markup", async () => {
  const text = "<b>bold</b> \u202egnp.exe \u001b]0;title\u0007 end";
  const { open, find } = await show({ "notes.md": createFile("notes.md", { text }) });
  await open("entry-notes.md");
  expect(find("files-text").querySelector("b")).toBeNull();
  expect(find("files-text").textContent).toContain(
    "<b>bold</b> ⟨U+202E⟩gnp.exe ⟨U+001B⟩]0;title⟨U+0007⟩ end",
  );
});

test("what is cut, no text, or empty says so", async () => {
  const cases: [Partial<StateFile>, string][] = [
    [{ cut: true, size_bytes: 5_000_000 }, "only its beginning"],
    [{ binary: true, text: "" }, "no text"],
    [{ text: "", size_bytes: 0 }, "empty"],
  ];
  for (const [change, words] of cases) {
    const { open, find } = await show({ "notes.md": createFile("notes.md", change) });
    await open("entry-notes.md");
    expect(find("files-place").textContent).toContain(words);
  }
});

test("nothing is asked for again but by hand, and a reload stays where one is", async () => {
  const { app, open, find } = await show({ "notes.md": createFile("notes.md") });
  await open("entry-notes.md");
  const asked = app.hive.calls.length;
  await settle(() => app.store.epochs.moveAll());
  expect(app.hive.calls).toHaveLength(asked);
  app.hive.answers["GET /api/agents/alice/state/file"] = createFile("notes.md", { text: "later\n" });
  await settle(() => find("files-reload").click());
  expect(find("files-text").textContent).toBe("later\n");
});

test("why something cannot be shown is told", async () => {
  const refusal = { code: "refused", message: "notes.md is a link, or leads through one", hint: "" };
  const { open, find } = await show({ "notes.md": Response.json(refusal, { status: 403 }) });
  await open("entry-notes.md");
  expect(find("fetch-failed").textContent).toContain("is a link");
});
