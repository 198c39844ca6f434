import type { ComponentChildren } from "preact";
import { agentPath, isAgentName, navigate } from "../route.ts";
import { Inline } from "./text.tsx";

/** A link within these pages: followed without a reload, and like any other with a modifier or another button. */
export function Link({
  to,
  children,
  ...rest
}: {
  to: string;
  children: ComponentChildren;
  class?: string;
  "aria-label"?: string;
  "data-testid"?: string;
}) {
  return (
    <a
      href={to}
      {...rest}
      onClick={(event) => {
        if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        navigate(to);
      }}
    >
      {children}
    </a>
  );
}

/** Somebody's name: a link for an agent, plain for the operator and the system. */
export function Name({ name }: { name: string }) {
  if (name === "operator" || name === "system" || name === "*")
    return <span class={`name name-${name}`}>{name}</span>;
  if (!isAgentName(name))
    return (
      <span class="name">
        <Inline text={name} />
      </span>
    );
  return (
    <Link to={agentPath(name)} class={name === "manager" ? "name name-manager" : "name"}>
      <Inline text={name} />
    </Link>
  );
}
