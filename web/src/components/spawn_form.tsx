import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useJump } from "../jump.ts";
import { Act, actOnEnter } from "./act.tsx";
import { Leet } from "./section.tsx";

const NAME = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
export const NAME_RULE = "a to z, 0 to 9 and '-'; starts with a letter, ends without '-'";

/** Whether something was typed that no agent can be called. */
export const isWrongName = (name: string) => name !== "" && !NAME.test(name);

/** The operator's own spawn: no approval, as the operator is the one who would give it. */
export function SpawnForm() {
  const { store } = useApp();
  const name = useDraft("spawn");
  useJump("spawn-name", true);
  const wrong = isWrongName(name.value);
  return (
    <div class="spawn" data-testid="spawn">
      <label for="spawn-name">
        <Leet plain="spawn an agent" leet="R3QU3ST SP4WN" />
      </label>
      <form class="inline-form" onSubmit={actOnEnter}>
        <input
          id="spawn-name"
          type="text"
          maxLength={63}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          placeholder="name"
          aria-label="name of the agent to spawn"
          aria-invalid={wrong}
          aria-describedby="spawn-rule"
          data-testid="spawn-name"
          value={name.value}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
        <Act
          label="spawn an agent"
          testId="spawn-submit"
          kind="good"
          disabled={name.value === "" || wrong}
          onDone={() => (name.value = "")}
          run={async () => {
            const row = await store.api.spawn(name.peek());
            return `${row.name} is spawned`;
          }}
        >
          spawn
        </Act>
      </form>
      <p id="spawn-rule" class={wrong ? "rule rule-broken" : "rule"}>
        {NAME_RULE}
      </p>
    </div>
  );
}
