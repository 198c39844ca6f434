import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useJump } from "../jump.ts";
import { Act } from "./act.tsx";
import { Leet } from "./section.tsx";

const NAME = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;
const RULE = "a to z, 0 to 9 and '-'; starts with a letter, ends without '-'";

/** The operator's own spawn: no approval, as the operator is the one who would give it. */
export function SpawnForm() {
  const { store } = useApp();
  const name = useDraft("spawn");
  useJump("spawn-name", true);
  const wrong = name.value !== "" && !NAME.test(name.value);
  return (
    <div class="spawn" data-testid="spawn">
      <label for="spawn-name">
        <Leet plain="spawn an agent" leet="R3QU3ST SP4WN" />
      </label>
      <div class="inline-form">
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
      </div>
      <p id="spawn-rule" class={wrong ? "rule rule-broken" : "rule"}>
        {RULE}
      </p>
    </div>
  );
}
