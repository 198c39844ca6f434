import type { AgentConfigView, Permission, PermissionArea } from "../api_types.ts";
import { Badge } from "./badge.tsx";
import { Exact } from "./text.tsx";

const AREAS: [area: PermissionArea, words: string][] = [
  ["run", "run"],
  ["reach", "reach"],
  ["read", "read"],
  ["message", "send messages to"],
  ["spend", "spend"],
];

/** What the agent may do, may do after a question, and may not do, each with the rule that says so. */
export function Permissions({ view }: { view: AgentConfigView }) {
  const groups = AREAS.map(([area, words]) => ({
    area,
    words,
    rows: view.permissions.filter((row) => row.area === area),
  })).filter((group) => group.rows.length > 0);
  return (
    <div class="config-part" data-testid={`permissions-${view.agent}`}>
      <h3>what it may do</h3>
      {groups.length === 0 && <p class="empty">not known: there is no config to tell from</p>}
      {groups.map(({ area, words, rows }) => (
        <div key={area} class="permission-group" data-area={area}>
          <h4>{words}</h4>
          <ul>
            {rows.map((row, index) => (
              <PermissionRow key={index} row={row} />
            ))}
          </ul>
        </div>
      ))}
    </div>
  );
}

function PermissionRow({ row }: { row: Permission }) {
  return (
    <li class="permission" data-verdict={row.verdict}>
      <Badge state={row.verdict} testId="verdict" />
      <span class="permission-subject">
        <Exact text={row.subject} />
      </span>
      <span class="permission-rule dim">
        <Exact text={row.rule} />
      </span>
    </li>
  );
}
