import { useSignal } from "@preact/signals";
import { Fragment } from "preact";
import { type Api, ApiError } from "../api.ts";
import { COMMANDS, findCompletions, parseTyped, renderCompletion } from "../commands.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { renderCancel, renderCompact } from "./agent_state.tsx";
import { Compose } from "./compose.tsx";

/** What each command does; resolves to what the toast says. `/help` is the prompt line's own. */
const RUN: Record<string, (api: Api, name: string, argument: string) => Promise<string>> = {
  cancel: async (api, name) => renderCancel(name, (await api.cancelTurn(name)).cancelled),
  compact: async (api, name) => renderCompact(name, (await api.compact(name)).accepted),
  async model(api, name, argument) {
    const model = argument === "default" ? "" : argument;
    await api.chooseModel(name, model);
    return `${name}: ${model || "the config's model"} from the next turn on`;
  },
  async pause(api, name, argument) {
    await api.pause(name, argument);
    return `${name} is paused: its messages wait`;
  },
  async resume(api, name) {
    await api.resume(name);
    return `${name} goes on`;
  },
};

/** Writes to one agent as the operator, and takes the few commands that are not messages. */
export function PromptLine({ name }: { name: string }) {
  const { store } = useApp();
  const draft = useDraft(`prompt-${name}`);
  const help = useSignal(false);

  function onCommand(text: string): Promise<string> | null {
    const typed = parseTyped(text);
    if (typed.kind === "message") return null;
    if (typed.kind === "wrong")
      return Promise.reject(new ApiError(0, "unknown_command", typed.message, typed.hint));
    const run = RUN[typed.name];
    if (run) return run(store.api, name, typed.argument);
    help.value = true;
    return Promise.resolve("");
  }

  return (
    <div class="prompt-line" data-testid="prompt">
      {help.value && <Help name={name} onClose={() => (help.value = false)} />}
      <Compose
        to={name}
        draft={draft}
        testId="prompt"
        placeholder={`write to ${name}, or /help`}
        onCommand={onCommand}
        toBody={(text) => {
          const typed = parseTyped(text);
          return typed.kind === "message" ? typed.text : text;
        }}
        complete={(text) =>
          findCompletions(text).map((command) => ({
            text: renderCompletion(command),
            label: `/${command.name} ${command.argument}`.trim(),
            words: command.words,
          }))
        }
      />
    </div>
  );
}

function Help({ name, onClose }: { name: string; onClose: () => void }) {
  return (
    <div class="prompt-help" data-testid="prompt-help">
      <dl>
        <dt>enter</dt>
        <dd>sends a message to {name}; it is read when its turn begins or it calls recv</dd>
        <dt>shift+enter</dt>
        <dd>begins a new line</dd>
        {COMMANDS.map((command) => (
          <Fragment key={command.name}>
            <dt>
              /{command.name} {command.optional ? `[${command.argument}]` : command.argument}
            </dt>
            <dd>{command.words}</dd>
          </Fragment>
        ))}
        <dt>{"//…"}</dt>
        <dd>a message that begins with /</dd>
      </dl>
      <button type="button" class="link" onClick={onClose}>
        close
      </button>
    </div>
  );
}
