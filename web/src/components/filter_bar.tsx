import type { Signal } from "@preact/signals";
import { useApp } from "../context.ts";
import { type FlowFilter, KINDS, STATES } from "../flow_filter.ts";
import { renderVisible } from "../text.ts";

/** Narrows the flow: by words, by who wrote or got it, by who the writer is, by what became of it. */
export function FilterBar({ narrowed }: { narrowed: FlowFilter }) {
  const { store } = useApp();
  const { fields, filter, clear } = narrowed;
  const agents = [...store.agents.keys.value, "operator"];
  return (
    <search class="filter-bar" aria-label="filter of the message flow" data-testid="flow-filter">
      <input
        type="search"
        placeholder="search all messages"
        aria-label="search all messages"
        data-testid="flow-search"
        value={fields.search.value}
        onInput={(event) => (fields.search.value = event.currentTarget.value)}
      />
      <Choice name="agent" any="anybody" field={fields.agent} options={agents} />
      <Choice name="kind" any="any sender" field={fields.kind} options={KINDS} />
      <Choice name="state" any="any state" field={fields.state} options={STATES} />
      {filter?.thread !== undefined && (
        <button
          type="button"
          class="chip chip-button"
          aria-label={`not only the thread of ${filter.thread}`}
          data-testid="flow-thread"
          onClick={() => (fields.thread.value = "")}
        >
          thread of #{filter.thread} ✕
        </button>
      )}
      {filter !== null && (
        <button type="button" class="link" data-testid="flow-clear" onClick={clear}>
          show all
        </button>
      )}
    </search>
  );
}

interface ChoiceProps {
  name: string;
  /** What is said where nothing is chosen. */
  any: string;
  field: Signal<string>;
  options: readonly string[];
}

function Choice({ name, any, field, options }: ChoiceProps) {
  const chosen = field.value;
  // Somebody may be gone who was chosen before.
  const shown = chosen === "" || options.includes(chosen) ? options : [...options, chosen];
  return (
    <select
      aria-label={`only this ${name}`}
      aria-current={chosen !== "" ? true : undefined}
      data-testid={`flow-${name}`}
      value={chosen}
      onChange={(event) => (field.value = event.currentTarget.value)}
    >
      <option value="">{any}</option>
      {shown.map((option) => (
        <option key={option} value={option}>
          {renderVisible(option)}
        </option>
      ))}
    </select>
  );
}
