import { expect, test } from "vitest";
import type { Hive } from "../api_types.ts";
import { createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { Banners } from "./banner.tsx";

const TWINS = "ada and bob have the same port, 8123: destroy one and spawn it under another name";
const TAKEN = "cleo has no page at its port 8124 (Address already in use)";

test("agents whose page is not at their port are named in the banner, and no longer when it is", async () => {
  const app = createTestApp();
  await app.store.load();
  const page = mount(app, <Banners />);
  expect(page.query("banner-port")).toBeNull();
  const hive = app.hive.answers["GET /api/hive"] as Hive;
  async function tell(port_problems: string[]) {
    app.hive.answers["GET /api/hive"] = { ...hive, port_problems };
    await settle(() => app.store.applyPorts());
  }

  await tell([TWINS]);
  expect(page.find("banner-port").textContent).toBe(TWINS);

  await tell([TWINS, TAKEN]);
  const details = page.find("banner-port").querySelector("details") as HTMLDetailsElement;
  expect(details.querySelector("summary")?.textContent).toContain("2 ports");
  expect([...details.querySelectorAll("li")].map((line) => line.textContent)).toEqual([TWINS, TAKEN]);

  // What was opened stays open.
  details.open = true;
  await tell([TWINS, TAKEN, TAKEN.replace("cleo", "dora")]);
  expect(page.find("banner-port").querySelector("details")).toBe(details);
  expect(details.open).toBe(true);

  await tell([]);
  expect(page.query("banner-port")).toBeNull();
});
