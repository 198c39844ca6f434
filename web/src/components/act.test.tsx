import { expect, test } from "vitest";
import { createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { Act, type ActProps } from "./act.tsx";
import { Toaster } from "./toaster.tsx";

function show(props: Partial<ActProps>) {
  const app = createTestApp();
  const page = mount(
    app,
    <>
      <Act label="do it" testId="do" run={async () => "done"} {...props}>
        do
      </Act>
      <Toaster />
    </>,
  );
  return { app, ...page };
}

/** A promise that is kept by hand. */
function createGate() {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}

test("a double click decides once; the button is busy meanwhile, then a toast tells", async () => {
  let runs = 0;
  const gate = createGate();
  const { find, query } = show({
    run: async () => {
      runs += 1;
      await gate.opened;
      return "it is done";
    },
  });
  const button = find("do");
  await settle(() => {
    button.click();
    button.click();
  });
  await settle(() => button.click());
  expect(runs).toBe(1);
  expect(button.getAttribute("aria-busy")).toBe("true");
  expect(button.getAttribute("aria-disabled")).toBe("true");
  expect(query("toast-done")).toBeNull();
  await settle(gate.open);
  expect(find("toast-done").textContent).toContain("it is done");
  expect(button.getAttribute("aria-busy")).toBe("false");
});

test("a refusal is told as an alert and the act can be tried again", async () => {
  let runs = 0;
  const { find } = show({
    run: async () => {
      runs += 1;
      throw new Error("somebody was faster");
    },
  });
  await settle(() => find("do").click());
  expect(find("toast-error").textContent).toContain("somebody was faster");
  expect(find("toast-error").closest("[role=alert]")).not.toBeNull();
  await settle(() => find("do").click());
  expect(runs).toBe(2);
});

test("a done act stays busy until its row changes", async () => {
  const app = createTestApp();
  const at = (until: string) => (
    <Act label="stop" testId="do" until={until} run={async () => "stopping"}>
      stop
    </Act>
  );
  const { find, root } = mount(app, at("idle"));
  await settle(() => find("do").click());
  expect(find("do").getAttribute("aria-busy")).toBe("true");
  const { render } = await import("preact");
  const { AppContext } = await import("../context.ts");
  await settle(() => render(<AppContext.Provider value={app}>{at("stopped")}</AppContext.Provider>, root));
  expect(find("do").getAttribute("aria-busy")).toBe("false");
});

test("a destructive act asks once, with the safe answer in focus, and no means nothing happens", async () => {
  let runs = 0;
  const { find, query } = show({
    confirm: "destroy alice?",
    run: async () => {
      runs += 1;
      return "gone";
    },
  });
  await settle(() => find("do").click());
  expect(runs).toBe(0);
  expect(document.activeElement).toBe(find("do-no"));
  await settle(() => find("do-no").click());
  expect(query("do-yes")).toBeNull();
  await settle(() => find("do").click());
  await settle(() => find("do-yes").click());
  expect(runs).toBe(1);
});

test("escape is a no", async () => {
  const { find, query } = show({ confirm: "sure?" });
  await settle(() => find("do").click());
  await settle(() =>
    find("do-no").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true })),
  );
  expect(query("do-yes")).toBeNull();
});

test("an act that is not possible now does nothing", async () => {
  let runs = 0;
  const { find } = show({
    disabled: true,
    run: async () => {
      runs += 1;
      return "";
    },
  });
  await settle(() => find("do").click());
  expect(runs).toBe(0);
});
