import { signal } from "@preact/signals";
import { beforeEach, expect, test } from "vitest";
import type { Approval, HiveEvent, Review } from "../api_types.ts";
import { narrow, sideBySide } from "../settings.ts";
import {
  createApproval,
  createComparison,
  createFileDiff,
  createMeaning,
  createReview,
  createSystemChange,
  createTestApp,
  mount,
  settle,
} from "../testing/stand_in.tsx";
import { Approvals } from "./approvals.tsx";

const COMMIT = "c".repeat(40);

const event = (name: string, approval: Approval): HiveEvent => ({
  id: 1,
  at: "2026-11-20T12:00:00Z",
  name,
  agent: approval.agent,
  body: { approval },
});

beforeEach(() => {
  sessionStorage.clear();
  sideBySide.value = false;
  narrow.value = false;
});

async function show(change: Partial<Review> = {}, of: Partial<Approval> = {}) {
  const approval = createApproval(4, { kind: "apply", agent: "alice", commit: COMMIT, ...of });
  const app = createTestApp({
    "GET /api/approvals": [approval],
    "GET /api/approvals/4/review": createReview(approval, change),
    "POST /api/approvals/4/approve": {},
  });
  await app.store.load();
  const page = mount(app, <Approvals at={signal(false)} />);
  await settle();
  return { app, approval, ...page };
}

const reviewCalls = (calls: { path: string }[]) =>
  calls.filter((call) => call.path.endsWith("/review")).length;

test("a pending change shows its meaning, its files and the pinned commit without a click", async () => {
  const { find } = await show({
    comparison: createComparison({
      meaning: [
        createMeaning({
          area: "bash",
          change: "changed",
          subject: "allow",
          before: "git status",
          after: "git *",
        }),
        createMeaning({ effect: "next_turn" }),
      ],
    }),
  });
  const rows = [...find("meaning-4").querySelectorAll("tbody tr")].map((row) => row.textContent);
  expect(rows).toEqual(["±bashallowgit status → git *rebuild", "+packagesjqnext turn"]);
  expect(find("diff-file-agent.toml").textContent).toContain("new agent.toml");
  expect(find("review-4").textContent).toContain("commit cccccccccc on bbbbbbbbbb");
});

test("nobody approves what was not shown", async () => {
  const { app, find, query } = await show({}, {});
  expect(find("approve").getAttribute("aria-disabled")).toBeNull();
  app.hive.answers["GET /api/approvals/5/review"] = Response.json(
    { code: "x", message: "no disk", hint: "" },
    { status: 500 },
  );
  await settle(() => app.store.approvals.put(createApproval(5, { agent: "bob", commit: COMMIT })));
  const row = find("approval-5");
  const approve = row.querySelector<HTMLElement>('[data-testid="approve"]');
  expect(row.textContent).toContain("the change cannot be shown: no disk");
  expect(approve?.getAttribute("aria-disabled")).toBe("true");
  await settle(() => approve?.click());
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
  app.hive.answers["GET /api/approvals/5/review"] = createReview(createApproval(5));
  await settle(() => row.querySelector<HTMLElement>('[data-testid="fetch-failed"] button')?.click());
  expect(approve?.getAttribute("aria-disabled")).toBeNull();
  expect(query("fetch-failed")).toBeNull();
});

test("a commit whose change is not known is not taken for the default config", async () => {
  const { find } = await show({ comparison: null, warnings: ["what it changes cannot be shown: gone"] });
  expect(find("meaning-4").textContent).toBe("what it changes is not known");
  expect(find("review-warning").textContent).toContain("cannot be shown: gone");
  expect(find("approve").getAttribute("aria-disabled")).toBe("true");
});

test("a spawn by its name alone says that it comes with the default config", async () => {
  const { find } = await show({ comparison: null }, { kind: "spawn", commit: null });
  expect(find("meaning-4").textContent).toContain("the default config");
  expect(find("approve").getAttribute("aria-disabled")).toBeNull();
});

test("a large file is folded, a binary one and the executable bit are noted", async () => {
  const lines = Array.from({ length: 812 }, (_, i) => ({
    kind: "added" as const,
    old: null,
    new: i + 1,
    text: `line ${i}`,
  }));
  const { find } = await show({
    comparison: createComparison({
      files: [
        createFileDiff("big.csv", { large: true, hunks: [{ header: "@@", lines }] }),
        createFileDiff("logo.png", { binary: true, hunks: [], new_size_bytes: 2048 }),
        createFileDiff("run.sh", { executable: true, hunks: [] }),
        createFileDiff("huge", { truncated: true, hunks: [] }),
      ],
    }),
  });
  const big = find<HTMLDetailsElement>("diff-file-big.csv");
  expect(big.open).toBe(false);
  expect(big.textContent).toContain("show 812 lines");
  expect(big.textContent).not.toContain("line 5");
  await settle(() => {
    big.open = true;
    big.dispatchEvent(new Event("toggle"));
  });
  expect(big.textContent).toContain("line 811");
  expect(find("diff-file-logo.png").textContent).toContain("10 B → 2.0 KiB");
  expect(find("diff-file-run.sh").textContent).toContain("becomes executable");
  expect(find("diff-file-huge").textContent).toContain("too long to be shown whole");
});

test("side by side is chosen once for all diffs and remembered; a narrow screen has no choice", async () => {
  const { find, query, root } = await show();
  expect(root.querySelector(".diff-split")).toBeNull();
  await settle(() => find("diff-mode").click());
  expect(root.querySelector(".diff-split")).not.toBeNull();
  expect(find("diff-mode").getAttribute("aria-pressed")).toBe("true");
  expect(localStorage.getItem("hyperhive.side-by-side")).toBe("1");
  await settle(() => (narrow.value = true));
  expect(root.querySelector(".diff-split")).toBeNull();
  expect(query("diff-mode")).toBeNull();
});

test("what changed since an earlier proposal can be looked at, and is not taken for the whole", async () => {
  const since = createComparison({ files: [createFileDiff("prompt.md")], meaning: [] });
  const { find, query } = await show({ earlier: 3, since_earlier: since });
  expect(query("diff-file-prompt.md")).toBeNull();
  await settle(() => find("since-earlier").click());
  expect(find("diff-file-prompt.md").textContent).toContain("new prompt.md");
  expect(query("diff-file-agent.toml")).toBeNull();
  expect(find("review-4").textContent).toContain("you decide on the whole change");
  await settle(() => find("since-earlier").click());
  expect(find("diff-file-agent.toml").isConnected).toBe(true);
});

test("staged notes of a spawn are shown as what they are", async () => {
  const { find } = await show({ notes: [createFileDiff("notes.md")] }, { kind: "spawn" });
  expect(find("notes-4").textContent).toContain("new notes.md");
});

test("a reconnect fetches the change again and closes nothing; another agent's does not", async () => {
  const { app, approval, find } = await show();
  const file = find<HTMLDetailsElement>("diff-file-agent.toml");
  const box = file.querySelector("section");
  await settle(() => {
    file.open = false;
    file.dispatchEvent(new Event("toggle"));
  });
  const before = reviewCalls(app.hive.calls);
  app.hive.answers["GET /api/approvals/4/review"] = createReview(approval, { warnings: ["it is stale now"] });
  await settle(() => void app.store.load());
  expect(reviewCalls(app.hive.calls)).toBe(before + 1);
  expect(find("review-warning").textContent).toBe("it is stale now");
  expect(find("diff-file-agent.toml")).toBe(file);
  expect(file.open).toBe(false);
  expect(box?.isConnected).toBe(false);
  const other = createApproval(9, { agent: "bob", status: "denied" });
  await settle(() => app.store.applyEvent(event("approval.denied", other)));
  expect(reviewCalls(app.hive.calls)).toBe(before + 1);
});

test("what is built shows that it goes on, then how it ended and why; the change stays open", async () => {
  const { app, approval, find, query } = await show();
  await settle(() => app.store.applyEvent(event("approval.building", { ...approval, status: "building" })));
  expect(find("approval-4").textContent).toContain("building");
  expect(find("approval-4").querySelector(".spinner")).not.toBeNull();
  expect(query("approve")).toBeNull();
  const failed = { ...approval, status: "failed" as const, reason: "jq is not installed\napt install jq" };
  await settle(() => app.store.applyEvent(event("approval.failed", failed)));
  expect(find("approval-4").dataset.status).toBe("failed");
  expect(find("approval-reason").textContent).toContain("apt install jq");
  expect(find("diff-file-agent.toml").isConnected).toBe(true);
});

test("many that wait do not fetch their changes all at once", async () => {
  const rows = Array.from({ length: 30 }, (_, i) => createApproval(i + 1, { commit: COMMIT }));
  const app = createTestApp({ "GET /api/approvals": rows });
  await app.store.load();
  const { find } = mount(app, <Approvals at={signal(false)} />);
  await settle();
  expect(reviewCalls(app.hive.calls)).toBe(8);
  app.hive.answers["GET /api/approvals/20/review"] = createReview(createApproval(20));
  await settle(() =>
    find("approval-20").querySelector<HTMLElement>('[data-testid="review-toggle"]')?.click(),
  );
  expect(find("meaning-20").textContent).toContain("packages");
});

test("a line without an end is clipped, and shown whole on request", async () => {
  const text = `${"a".repeat(5_000)}\u202e`;
  const hunks = [{ header: "@@", lines: [{ kind: "added" as const, old: null, new: 1, text }] }];
  const { find } = await show({ comparison: createComparison({ files: [createFileDiff("x", { hunks })] }) });
  const file = find("diff-file-x");
  expect(file.textContent).toContain("3001 more characters");
  await settle(() => file.querySelector<HTMLElement>("button.link")?.click());
  expect(file.textContent).toContain("⟨U+202E⟩");
});

test("that a file does not end with a line break is no line of it", async () => {
  const hunks = [
    {
      header: "@@",
      lines: [
        { kind: "added" as const, old: null, new: 1, text: "last" },
        { kind: "added" as const, old: null, new: null, text: "\\ No newline at end of file" },
      ],
    },
  ];
  const { find } = await show({ comparison: createComparison({ files: [createFileDiff("x", { hunks })] }) });
  const [line, note] = [...find("diff-file-x").querySelectorAll(".line-text")].map(
    (cell) => cell.textContent,
  );
  expect([line, note]).toEqual(["+last", "\\ No newline at end of file"]);
});

// -- the agent's system --------------------------------------------------------------------------------

const systemCalls = (calls: { path: string }[]) =>
  calls.filter((call) => call.path.endsWith("/system")).map((call) => call.path);

/** An answer that comes when the test says so. */
function createHeld(value: unknown) {
  let release = () => {};
  const held = new Promise<unknown>((resolve) => {
    release = () => resolve(value);
  });
  return { answer: () => held, release };
}

/** A pending change of a config in Nix, whose system is asked for. */
async function showSystem(answer: unknown) {
  const approval = createApproval(4, { kind: "apply", agent: "alice", commit: COMMIT });
  const app = createTestApp({
    "GET /api/approvals": [approval],
    "GET /api/approvals/4/review": createReview(approval, { system: true }),
    "GET /api/approvals/4/system": answer,
    "POST /api/approvals/4/approve": {},
  });
  await app.store.load();
  const page = mount(app, <Approvals at={signal(false)} />);
  await settle();
  return { app, approval, ...page };
}

test("what changes of the system comes below the meaning, and nothing waits for it", async () => {
  const held = createHeld(
    createSystemChange({
      packages: [
        { change: "changed", name: "git", before: "2.42", after: "2.43" },
        { change: "removed", name: "jq", before: "1.7", after: "" },
        { change: "added", name: "ripgrep", before: "", after: "14.1.0" },
      ],
      added_bytes: 12 * 1024 * 1024,
      removed_bytes: 1024 * 1024,
      download_bytes: 4 * 1024 * 1024,
      fetched: 3,
      built: ["git", "ripgrep"],
    }),
  );
  const { find } = await showSystem(held.answer);
  const section = find("system-4");
  expect(section.previousElementSibling).toBe(find("meaning-4"));
  expect(section.textContent).toContain("being worked out");
  expect(section.querySelector(".spinner")).not.toBeNull();
  // The decision was there before.
  expect(find("approve").getAttribute("aria-disabled")).toBeNull();
  await settle(held.release);
  expect(section.querySelector(".spinner")).toBeNull();
  const rows = [...section.querySelectorAll("tbody tr")].map((row) => row.textContent);
  expect(rows).toEqual(["±git2.42 → 2.43", "−jq1.7", "+ripgrep14.1.0"]);
  expect(find("system-sizes").textContent).toBe(
    "12 MiB more on the disk, at most 1.0 MiB no longer needed, 4.0 MiB to download, " +
      "2 packages are built here, of a size not known yet: git, ripgrep",
  );
  expect(section.textContent).not.toContain("beyond");
});

test("that no package changes, why sizes are not known, and what a new agent is compared with", async () => {
  const { app, find } = await showSystem(createSystemChange({ packages: [] }));
  expect(find("system-4").textContent).toContain("none comes, goes or becomes another");
  app.hive.answers["GET /api/approvals/4/system"] = createSystemChange({
    base: "",
    problem: "there is no store",
  });
  await settle(() => void app.store.load());
  expect(find("system-4").textContent).toContain("beyond a system of which its config says nothing");
  expect(find("system-sizes").textContent).toBe("what it takes on the disk is not known: there is no store");
});

test("what cannot be evaluated says why, and is asked for again on request", async () => {
  const refused = { code: "invalid_input", message: "agent.nix line 3: no such package", hint: "" };
  const { app, find, query } = await showSystem(Response.json(refused, { status: 400 }));
  expect(find("fetch-failed").textContent).toContain(
    "what it changes of them cannot be shown: agent.nix line 3: no such package",
  );
  expect(find("approve").getAttribute("aria-disabled")).toBeNull();
  app.hive.answers["GET /api/approvals/4/system"] = createSystemChange();
  await settle(() => find("fetch-failed").querySelector("button")?.click());
  expect(query("fetch-failed")).toBeNull();
  expect(find("system-4").textContent).toContain("ripgrep");
});

test("many packages are folded behind how many there are", async () => {
  const packages = Array.from({ length: 500 }, (_, i) => ({
    change: i % 2 ? ("added" as const) : ("removed" as const),
    name: `package-${i}`,
    before: "",
    after: "",
  }));
  const { find } = await showSystem(createSystemChange({ packages, left_out: 7 }));
  const fold = find<HTMLDetailsElement>("system-packages");
  expect(fold.textContent).toBe("packages: 250 added, 250 removed, and 7 more");
  await settle(() => {
    fold.open = true;
    fold.dispatchEvent(new Event("toggle"));
  });
  expect(fold.textContent).toContain("package-499");
  expect(fold.textContent).toContain("and 7 more");
});

test("where there is no system to ask for, nobody asks", async () => {
  const { app, query } = await show();
  expect(query("system-4")).toBeNull();
  expect(systemCalls(app.hive.calls)).toEqual([]);
});

test("systems are asked for one after the other, and not for a change that was closed meanwhile", async () => {
  const rows = [1, 2, 3].map((id) => createApproval(id, { commit: COMMIT }));
  const held = createHeld(createSystemChange());
  const app = createTestApp({
    "GET /api/approvals": rows,
    ...Object.fromEntries(
      rows.map((row) => [`GET /api/approvals/${row.id}/review`, createReview(row, { system: true })]),
    ),
    "GET /api/approvals/1/system": held.answer,
    "GET /api/approvals/3/system": createSystemChange(),
  });
  await app.store.load();
  const { find } = mount(app, <Approvals at={signal(false)} />);
  await settle();
  expect(systemCalls(app.hive.calls)).toEqual(["/api/approvals/1/system"]);
  await settle(() => find("approval-2").querySelector<HTMLElement>('[data-testid="review-toggle"]')?.click());
  await settle(held.release);
  expect(systemCalls(app.hive.calls)).toEqual(["/api/approvals/1/system", "/api/approvals/3/system"]);
  expect(find("system-3").textContent).toContain("ripgrep");
});
