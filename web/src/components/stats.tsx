import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { agentPath, statsPath } from "../route.ts";
import { EVERYONE } from "../store.ts";
import { Link } from "./link.tsx";

type View = typeof import("../stats/view.tsx")["StatsView"];

/** The stats of an agent, or of EVERYONE. What draws them is fetched when somebody first looks. */
export function Stats({ agent }: { agent: string }) {
  const view = useSignal<{ show: View } | null>(null);
  const failed = useSignal(false);
  const load = () => {
    failed.value = false;
    import("../stats/view.tsx").then(
      (module) => {
        view.value = { show: module.StatsView };
      },
      () => {
        failed.value = true;
      },
    );
  };
  useEffect(load, []);
  if (failed.value)
    return (
      <p class="rule rule-broken" role="alert" data-testid="stats-failed">
        the charts could not be loaded: the hive may be another version now.{" "}
        <button type="button" class="link" onClick={load}>
          try again
        </button>{" "}
        or load the page anew
      </p>
    );
  if (view.value === null) return <p class="empty">loading the charts…</p>;
  const { show: Show } = view.value;
  return <Show key={agent} agent={agent} />;
}

/** The same folded out above a transcript. */
export function StatsPanel({ agent }: { agent: string }) {
  return (
    <section class="panel" aria-label={`stats of ${agent}`} data-testid="stats-panel">
      <div class="panel-head">
        <h3>stats</h3>
        <Link to={statsPath(agent)} class="link">
          on a page of its own
        </Link>
      </div>
      <Stats agent={agent} />
    </section>
  );
}

/** Where the stats of somebody else, and the agent itself, are. */
export function StatsNav({ agents, at }: { agents: readonly string[]; at: string }) {
  return (
    <nav class="stats-nav" aria-label="whose stats">
      {[EVERYONE, ...agents].map((name) => (
        <Of key={name} name={name} here={name === at} />
      ))}
      {at !== EVERYONE && (
        <Link to={agentPath(at)} class="link">
          {at}'s page
        </Link>
      )}
    </nav>
  );
}

function Of({ name, here }: { name: string; here: boolean }) {
  const title = name === EVERYONE ? "the hive" : name;
  if (here) return <strong aria-current="page">{title}</strong>;
  return (
    <Link to={statsPath(name)} class="link">
      {title}
    </Link>
  );
}
