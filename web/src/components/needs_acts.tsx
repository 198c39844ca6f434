import type { ComponentChildren, JSX } from "preact";
import type { Api } from "../api.ts";
import type { Need } from "../api_types.ts";
import { useApp } from "../context.ts";
import { agentPath, isAgentName } from "../route.ts";
import { Act, type ActProps } from "./act.tsx";
import { Link } from "./link.tsx";
import { Grant } from "./steering.tsx";

/** What can be done about a need right there. */
export function NeedActs({ need }: { need: Need }) {
  if (need.acts.length === 0) return null;
  return (
    <div class="acts">
      {need.acts.map((name) => (
        <OneAct key={name} need={need} name={name} />
      ))}
    </div>
  );
}

type ActWords = Pick<ActProps, "kind" | "label" | "children" | "run">;

/** Acts of one click by their names. `agent` is null for what is the whole hive's. */
const ACTS: Record<string, (api: Api, need: Need) => ActWords> = {
  resume: (api, { agent }) => ({
    kind: "good",
    label: `let ${agent ?? "the hive"} try again`,
    children: "try now",
    async run() {
      await (agent === null ? api.resumeAll() : api.resume(agent));
      return `${agent ?? "the hive"} tries again`;
    },
  }),
  start: (api, { agent }) => ({
    kind: "good",
    label: `start ${agent}`,
    children: "start",
    async run() {
      await api.start(agent ?? "");
      return `${agent} is being started`;
    },
  }),
  release: (api, { ref }) => {
    const [one = "", other = ""] = ref.split(".");
    return {
      kind: "good",
      label: `let ${one} and ${other} write to each other again`,
      children: "let them go on",
      async run() {
        await api.release(one, other);
        return `${one} and ${other} may go on`;
      },
    };
  },
  requeue: (api, { agent, ref }) => ({
    kind: "good",
    label: `queue message ${ref} to ${agent} again`,
    children: "queue again",
    async run() {
      await api.requeue(Number(ref));
      return `message ${ref} is queued again`;
    },
  }),
  dismiss: (api, { ref }) => ({
    label: `dismiss message ${ref}`,
    children: "dismiss",
    async run() {
      await api.dismiss(Number(ref));
      return `message ${ref} stays undelivered`;
    },
  }),
};

function OneAct({ need, name }: { need: Need; name: string }): JSX.Element | null {
  const { api } = useApp().store;
  const { agent } = need;
  if (name === "login" && agent !== null && isAgentName(agent))
    return <ActLink to={`${agentPath(agent)}#login`}>log {agent} in</ActLink>;
  if (name === "grant")
    return (
      <Grant
        of={agent ?? "the hive"}
        until={`${need.since} ${need.deadline} ${need.detail}`}
        grant={(amount) => (agent === null ? api.grantHive(amount) : api.grant(agent, amount))}
      />
    );
  const words = Object.hasOwn(ACTS, name) ? ACTS[name]?.(api, need) : undefined;
  // An act of a later version is no reason to show a button that does nothing.
  return words === undefined ? null : <Act {...words} testId={`need-${name}`} until={need.since} />;
}

const ActLink = ({ to, children }: { to: string; children: ComponentChildren }) => (
  <Link to={to} class="act act-good">
    {children}
  </Link>
);
