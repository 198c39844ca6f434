import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { AuditEntry } from "../api_types.ts";
import { type AuditFilter, findPlace, NO_FILTER, openAudit, renderBody } from "../audit.ts";
import { useApp } from "../context.ts";
import { useSettled } from "../flow_filter.ts";
import { Act } from "./act.tsx";
import { Link, Name } from "./link.tsx";
import { Empty } from "./section.tsx";
import { Inline } from "./text.tsx";
import { Clock } from "./when.tsx";

const ACTORS = ["operator", "agent", "hive", "stranger"];

/** Who did what, the newest first: narrowed by words, by whom, about whom and by what it was. */
export function Audit() {
  const { api } = useApp().store;
  const filter = useSignal(NO_FILTER);
  const asked = useSettledFilter(filter.value);
  const list = useMemo(() => openAudit(api, asked), [api, asked]);
  useEffect(() => void list.newest(), [list]);
  const rows = list.rows.value;
  return (
    <>
      <Filter filter={filter} />
      <div class="acts audit-acts">
        <Act label="look for the newest" testId="audit-newest" run={() => list.newest().then(() => "")}>
          ↑ the newest
        </Act>
      </div>
      {list.error.value && (
        <p class="rule rule-broken" role="alert" data-testid="audit-error">
          the audit cannot be shown: <Inline text={list.error.value} />
        </p>
      )}
      {rows === null && !list.error.value && <Empty>loading the audit…</Empty>}
      {rows?.length === 0 && (
        <Empty>
          {list.hasOlder.value
            ? "nothing of that so far: there are older rows"
            : "nothing of that is in the audit"}
        </Empty>
      )}
      <ol class="audit-rows" data-testid="audit-rows">
        {rows?.map((row) => (
          <Row key={row.seq} row={row} />
        ))}
      </ol>
      {list.hasOlder.value && (
        <Act label="load older rows" testId="audit-older" run={() => list.older().then(() => "")}>
          older
        </Act>
      )}
      <p class="audit-note">
        what stands here is what the database says. whether any of it was changed,{" "}
        <code>hive audit verify</code> tells
      </p>
    </>
  );
}

/** The filter once nobody types in it any more; the same object until it is another one. */
function useSettledFilter({ grep, agent, actor, name }: AuditFilter): AuditFilter {
  const settled = { grep: useSettled(grep), agent: useSettled(agent.trim()), name: useSettled(name.trim()) };
  return useMemo(() => ({ ...settled, actor }), [settled.grep, settled.agent, settled.name, actor]);
}

function Row({ row }: { row: AuditEntry }) {
  const place = findPlace(row);
  return (
    <li class="audit-row" data-testid={`audit-${row.seq}`}>
      <span class="audit-head">
        <span class="audit-seq">{row.seq}</span>
        <Clock at={row.at} />
        <span class="audit-name">
          {place ? (
            <Link to={place} class="link">
              <Inline text={row.name} />
            </Link>
          ) : (
            <Inline text={row.name} />
          )}
        </span>
        {row.agent !== null && <Name name={row.agent} />}
        <span class="audit-actor">
          by <Inline text={row.actor} />
        </span>
      </span>
      <span class="audit-body">
        <Inline text={renderBody(row.body)} />
      </span>
    </li>
  );
}

function Filter({ filter: held }: { filter: Signal<AuditFilter> }) {
  const filter = held.value;
  const search = useRef<HTMLInputElement>(null);
  const onChange = (change: Partial<AuditFilter>) => {
    held.value = { ...held.peek(), ...change };
  };
  return (
    <search class="filter-bar" aria-label="filter of the audit">
      <input
        ref={search}
        type="search"
        placeholder="search the audit"
        aria-label="search the audit"
        data-testid="audit-grep"
        maxLength={200}
        value={filter.grep}
        onInput={(event) => onChange({ grep: event.currentTarget.value })}
      />
      <select
        aria-label="only by"
        aria-current={filter.actor !== "" ? true : undefined}
        data-testid="audit-actor"
        value={filter.actor}
        onChange={(event) => onChange({ actor: event.currentTarget.value })}
      >
        <option value="">by anybody</option>
        {ACTORS.map((actor) => (
          <option key={actor} value={actor}>
            by {actor === "operator" ? "the operator" : actor === "agent" ? "agents" : actor}
          </option>
        ))}
      </select>
      <input
        type="text"
        class="audit-word"
        placeholder="about whom"
        aria-label="only about this agent"
        data-testid="audit-agent"
        maxLength={200}
        value={filter.agent}
        onInput={(event) => onChange({ agent: event.currentTarget.value })}
      />
      <input
        type="text"
        class="audit-word"
        placeholder="what, such as approval.*"
        aria-label="only rows of this name"
        data-testid="audit-name"
        maxLength={200}
        value={filter.name}
        onInput={(event) => onChange({ name: event.currentTarget.value })}
      />
      {Object.values(filter).some(Boolean) && (
        <button
          type="button"
          class="link"
          data-testid="audit-clear"
          onClick={() => {
            held.value = NO_FILTER;
            // This goes away, and the focus with it.
            search.current?.focus();
          }}
        >
          show all
        </button>
      )}
    </search>
  );
}
