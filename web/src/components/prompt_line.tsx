import { useSignal } from "@preact/signals";
import { ApiError } from "../api.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { renderCancel } from "./agent_state.tsx";
import { Compose } from "./compose.tsx";

/** Writes to one agent as the operator, and takes the few commands that are not messages. */
export function PromptLine({ name }: { name: string }) {
  const { store } = useApp();
  const draft = useDraft(`prompt-${name}`);
  const help = useSignal(false);

  function onCommand(text: string): Promise<string> | null {
    const command = /^\/([a-z]+)\s*$/.exec(text)?.[1];
    if (command === undefined) return null;
    if (command === "help") {
      help.value = true;
      return Promise.resolve("");
    }
    if (command === "cancel")
      return store.api.cancelTurn(name).then(({ cancelled }) => renderCancel(name, cancelled));
    const hint = "/help lists the commands; begin with a space to send this as a message";
    return Promise.reject(new ApiError(0, "unknown_command", `there is no command /${command}`, hint));
  }

  return (
    <div class="prompt-line" data-testid="prompt">
      {help.value && (
        <div class="prompt-help" data-testid="prompt-help">
          <dl>
            <dt>enter</dt>
            <dd>sends a message to {name}; it is read when its turn begins or it calls recv</dd>
            <dt>shift+enter</dt>
            <dd>begins a new line</dd>
            <dt>/cancel</dt>
            <dd>interrupts the running turn</dd>
            <dt>/help</dt>
            <dd>shows this</dd>
          </dl>
          <button type="button" class="link" onClick={() => (help.value = false)}>
            close
          </button>
        </div>
      )}
      <Compose
        to={name}
        draft={draft}
        testId="prompt"
        placeholder={`write to ${name}, or /help`}
        onCommand={onCommand}
      />
    </div>
  );
}
