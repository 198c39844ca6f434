import { expect, test } from "vitest";
import type { AgentQuotas, QuotaUse } from "../api_types.ts";
import { createAgent, createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { Quotas } from "./quotas.tsx";

const GIB = 1024 ** 3;

const quotas = (change: Partial<AgentQuotas> = {}): AgentQuotas => ({
  agent: "alice",
  over: "",
  allowed_until: null,
  quotas: [
    { quota: "disk", unit: "bytes", used: 9 * GIB, limit: 10 * GIB },
    { quota: "inbox", unit: "count", used: 12, limit: 9000 },
    { quota: "acts", unit: "per_minute", used: 3, limit: 120 },
    { quota: "log", unit: "bytes", used: null, limit: null },
  ],
  ...change,
});

async function show(answers: Record<string, unknown>) {
  const app = createTestApp({ "GET /api/agents": [createAgent("alice")], ...answers });
  const page = mount(app, <Quotas row={createAgent("alice")} />);
  await settle();
  return { app, ...page };
}

test("each quota is a row, and what is nearly all used is marked with a word, too", async () => {
  const page = await show({ "GET /api/quotas/alice": quotas() });
  expect(page.find("quota-disk")?.textContent).toBe("folders on the disk9.0 GiB (nearly all)10 GiB");
  expect(page.find("quota-inbox")?.textContent).toBe("messages waiting for it129,000");
  expect(page.find("quota-acts")?.textContent).toBe("other requests to the hive3120 a minute");
  expect(page.find("quota-log")?.textContent).toBe("log kept?any");
});

test("what its container takes stands first, and what cannot be limited here is said with the reason", async () => {
  const uses: QuotaUse[] = [
    { quota: "memory", unit: "bytes", used: 500 * 1024 ** 2, limit: 600 * 1024 ** 2 },
    { quota: "tasks", unit: "count", used: 14, limit: null },
  ];
  const page = await show({ "GET /api/quotas/alice": quotas({ quotas: uses }) });
  expect(page.find("quota-memory")?.textContent).toBe("memory of its container500 MiB (nearly all)600 MiB");
  expect(page.find("quota-tasks")?.textContent).toBe("processes and threads14any");
  expect(page.query("unlimited")).toBeNull();
  const unlimited = { memory: "<b>none</b> here", cpu: "<b>none</b> here", tasks: "another" };
  const { answers } = page.app.hive;
  answers["GET /api/hive"] = { ...(answers["GET /api/hive"] as object), unlimited };
  await settle(() => void page.app.store.load());
  const notes = [...page.root.querySelectorAll('[data-testid="unlimited"]')].map((note) => note.textContent);
  expect(notes).toEqual([
    "not limited on this machine: memory, cpu (<b>none</b> here)",
    "not limited on this machine: tasks (another)",
  ]);
});

test("why an agent was stopped is shown as it is, and more may be allowed for an hour", async () => {
  const hostile = "its folders hold <img src=x onerror=alert(1)>";
  const page = await show({
    "GET /api/quotas/alice": quotas({ over: hostile }),
    "POST /api/quotas/alice/allow": quotas({ allowed_until: "2026-11-20T13:00:00Z" }),
  });
  expect(page.find("over-quota")?.textContent).toContain(hostile);
  expect(document.querySelector("img")).toBeNull();
  expect(page.find("allow-disk")?.textContent).toContain("15 GiB for an hour");
});
