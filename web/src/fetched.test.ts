import { signal } from "@preact/signals";
import { expect, test } from "vitest";
import { openFetched } from "./fetched.ts";

const answered = () => new Promise((resolve) => setTimeout(resolve, 0));

test("the last answer stays when a later fetch fails, and the failure is told", async () => {
  const epoch = signal(0);
  let fails = false;
  const fetched = openFetched(async () => {
    if (fails) throw new Error("no disk");
    return { n: 1 };
  }, epoch);
  await answered();
  fails = true;
  epoch.value += 1;
  await answered();
  expect(fetched.value.value).toEqual({ n: 1 });
  expect(fetched.error.value).toBe("no disk");
  fails = false;
  await fetched.fetchNow();
  expect(fetched.error.value).toBe("");
});

test("an equal answer is no change, and many moves during a fetch are one more fetch", async () => {
  const epoch = signal(0);
  let fetches = 0;
  const fetched = openFetched(async () => {
    fetches += 1;
    return { n: 1 };
  }, epoch);
  for (let i = 0; i < 5; i += 1) epoch.value += 1;
  await answered();
  const first = fetched.value.value;
  epoch.value += 1;
  await answered();
  expect(fetches).toBe(3);
  expect(fetched.value.value).toBe(first);
});

test("nothing is fetched once it is closed", async () => {
  const epoch = signal(0);
  let fetches = 0;
  const fetched = openFetched(async () => (fetches += 1), epoch);
  await answered();
  fetched.close();
  epoch.value += 1;
  await answered();
  expect(fetches).toBe(1);
});
