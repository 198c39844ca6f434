import { expect, test } from "vitest";
import { ApiError, createApi } from "./api.ts";
import { createHive } from "./testing/stand_in.tsx";
import { parseToken } from "./token.ts";

test("a refusal carries the hive's message and hint", async () => {
  const body = { code: "conflict", message: "approval 4 is already denied", hint: "nothing was changed" };
  const hive = createHive({ "POST /api/approvals/4/approve": Response.json(body, { status: 409 }) });
  const error = await createApi({ fetch: hive.fetch })
    .approve(4)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({ status: 409, ...body });
});

test("an answer that is no JSON, and none at all, are errors that say so", async () => {
  const hive = createHive({
    "GET /api/agents": new Response("<html>", { status: 502 }),
    "GET /api/kept": () => {
      throw new TypeError("refused");
    },
  });
  const api = createApi({ fetch: hive.fetch });
  await expect(api.agents()).rejects.toMatchObject({ status: 502, message: "the hive answered 502" });
  await expect(api.kept()).rejects.toMatchObject({ status: 0, code: "unreachable" });
});

test("a 401 on anything is a lost session", async () => {
  let signedOut = 0;
  const hive = createHive({ "GET /api/agents": new Response("{}", { status: 401 }) });
  const api = createApi({ fetch: hive.fetch, onSignedOut: () => signedOut++ });
  await api.agents().catch(() => {});
  expect(signedOut).toBe(1);
});

test("every write says that it is JSON, and a name cannot leave its place in the path", async () => {
  let type: string | null = "";
  const hive = createHive({
    "POST /api/agents/..%2Fx%3F/stop": (_: URL, init: RequestInit) => {
      type = new Headers(init.headers).get("Content-Type");
      return null;
    },
  });
  await createApi({ fetch: hive.fetch }).stop("../x?");
  expect(type).toBe("application/json");
});

test("only the token is taken from what is pasted", () => {
  expect(parseToken("http://127.0.0.1:7000/login?token=abcDEF123-_x")).toBe("abcDEF123-_x");
  expect(parseToken(" abcDEF123-_x\n")).toBe("abcDEF123-_x");
  expect(parseToken("https://evil.example/")).toBe("");
  expect(parseToken("javascript:alert(1)")).toBe("");
  expect(parseToken("")).toBe("");
});
