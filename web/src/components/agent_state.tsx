import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { AgentRow } from "../api_types.ts";
import { useApp } from "../context.ts";
import { Act } from "./act.tsx";
import { ContextChip, CostChip, LastTurnChip, ModelChip, WaitingChip } from "./chips.tsx";
import { Parked, State } from "./containers.tsx";
import { Steering } from "./steering.tsx";
import { NeedsUpdate, Rebuild } from "./update.tsx";

const WORKING = new Set(["thinking", "compacting"]);
const DOWN = new Set(["stopped", "failed", "crashed", "unknown"]);
/** Where there is no harness that could be asked to compact. */
const UNREACHABLE = new Set([...DOWN, "hibernated", "starting", "stopping", "offline"]);

/** The parts of the page that fold out under the state. */
export type PanelName =
  | "inbox"
  | "login"
  | "notes"
  | "files"
  | "reminders"
  | "egress"
  | "quotas"
  | "snapshots"
  | "config"
  | "journal"
  | "stats"
  | "terminal";

/** One line on an agent: what it does and why, its model, what it used, how the last turn ended, and what fits the moment. */
export function AgentState({ row, children }: { row: AgentRow; children: ComponentChildren }) {
  return (
    <div class="agent-state" data-testid="agent-state" data-state={row.state}>
      <State row={row} />
      <Parked row={row} />
      <NeedsUpdate row={row} />
      <span class="chips">
        <ModelChip row={row} />
        <ContextChip row={row} />
        <CostChip row={row} />
        <WaitingChip row={row} />
        <LastTurnChip row={row} />
      </span>
      <div class="agent-acts">
        <TurnActs row={row} />
        <span class="acts panel-toggles">{children}</span>
      </div>
    </div>
  );
}

function TurnActs({ row }: { row: AgentRow }) {
  const { api } = useApp().store;
  const { name } = row;
  // One that is parked would be woken for nothing.
  const asleep = row.state === "hibernated" && row.park === null;
  return (
    <span class="acts">
      {WORKING.has(row.state) && (
        <Act
          label={`cancel turn of ${name}`}
          testId="cancel-turn"
          kind="danger"
          until={row.state}
          run={async () => renderCancel(name, (await api.cancelTurn(name)).cancelled)}
        >
          cancel turn
        </Act>
      )}
      {(DOWN.has(row.state) || asleep) && (
        <Act
          label={`start ${name}`}
          testId="start"
          kind={asleep ? "plain" : "good"}
          until={`${row.state} ${row.since}`}
          run={async () => {
            await api.start(name);
            return `${name} is starting`;
          }}
        >
          {asleep ? "wake" : "start"}
        </Act>
      )}
      <Rebuild row={row} />
      <Steering row={row} />
      {!UNREACHABLE.has(row.state) && (
        <Act
          label={`compact the conversation of ${name}`}
          testId="compact"
          run={async () => renderCompact(name, (await api.compact(name)).accepted)}
        >
          compact
        </Act>
      )}
    </span>
  );
}

/** Opens and closes one of the parts under the state. */
export function PanelToggle({
  name,
  agent,
  open,
  onToggle,
  testId,
  children,
}: {
  name: PanelName;
  agent: string;
  open: Signal<boolean> | boolean;
  onToggle?: () => void;
  testId?: string;
  children?: ComponentChildren;
}) {
  const isOpen = typeof open === "boolean" ? open : open.value;
  const button = useRef<HTMLButtonElement>(null);
  // On a phone they scroll: what a link has opened is among those that are seen.
  useEffect(() => {
    if (isOpen) button.current?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [isOpen]);
  return (
    <button
      ref={button}
      type="button"
      class="act act-quiet"
      aria-expanded={isOpen}
      data-testid={testId ?? `${name}-toggle`}
      onClick={() => {
        if (onToggle) onToggle();
        else if (typeof open !== "boolean") open.value = !isOpen;
      }}
    >
      {name}
      <span class="visually-hidden"> of {agent} </span>
      {children}
    </button>
  );
}

export const renderCancel = (name: string, cancelled: boolean) =>
  cancelled ? `the turn of ${name} is cancelled` : `${name} has no turn to cancel`;

export const renderCompact = (name: string, accepted: boolean) =>
  accepted
    ? `the conversation of ${name} is compacted once no turn runs`
    : `${name} has no conversation to compact`;
