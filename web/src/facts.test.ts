import { describe, expect, test } from "vitest";
import { renderFact } from "./facts.ts";

describe("a fact of the hive in words", () => {
  test.each([
    ['{"event": "rebuilt", "agent": "scout"}', "rebuilt scout"],
    [
      '{"event": "approval_resolved", "approval": 3, "kind": "apply", "agent": "scout", "status": "deployed", "reason": ""}',
      "approval resolved scout · approval 3 · kind apply · status deployed",
    ],
    ['{"event": "woken", "until": null, "what": {"a": [1]}}', 'woken · what {"a":[1]}'],
  ])("%s", (body, words) => {
    expect(renderFact(body)).toBe(words);
  });

  test.each(["", "hello", "null", "[1]", '"event"', '{"event": 3}', '{"event": ""}', '{"agent": "x"}', "{"])(
    "%s is none",
    (body) => {
      expect(renderFact(body)).toBeNull();
    },
  );
});
