import { expect, test } from "vitest";
import { parseRoute } from "./route.ts";

test("programs have one page", () => {
  for (const path of ["/programs", "/programs/"]) expect(parseRoute(path)).toEqual({ page: "programs" });
  for (const path of ["/programs/1", "/programsx", "/Programs"])
    expect(parseRoute(path)).toEqual({ page: "unknown" });
});
