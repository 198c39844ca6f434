import { type Signal, useComputed } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { renderFirstLine, renderRest } from "../text.ts";
import { describeOutcome, describePurpose } from "../transcript/outcome.ts";
import type { Envelope, Row } from "../transcript/rows.ts";
import { Name } from "./link.tsx";
import { Block, Inline } from "./text.tsx";
import { Clock } from "./when.tsx";

/** Which folds are open. Kept outside the rows, as a row leaves the page when it is scrolled far away. */
export type Folds = Signal<ReadonlySet<string>>;

interface RowProps {
  row: Row;
  folds: Folds;
}

export function TranscriptRow({ row, folds }: RowProps) {
  return (
    <li
      class={row.nested ? `t-row t-${row.type} t-nested` : `t-row t-${row.type}`}
      data-key={row.key}
      data-testid={`row-${row.type}`}
    >
      <Content row={row} folds={folds} />
    </li>
  );
}

function Content({ row, folds }: RowProps) {
  switch (row.type) {
    case "prompt":
      return <Prompt row={row} />;
    case "text":
      return <Block text={row.text} />;
    case "thinking":
      return (
        <Fold
          id={row.key}
          folds={folds}
          summary={<span class="dim">thought: {<First text={row.text} />}</span>}
        >
          <Block text={row.text} />
        </Fold>
      );
    case "tool":
      return <ToolRow row={row} folds={folds} />;
    case "end":
      return (
        <div class="t-end-line" data-outcome={row.outcome}>
          <Purpose purpose={row.purpose} />
          <span class={`tone-${describeOutcome(row.outcome).tone}`}>
            turn ended: <Inline text={describeOutcome(row.outcome).words} />
          </span>
          {row.reason && (
            <span class="reason">
              <Inline text={row.reason} />
            </span>
          )}
          {row.facts.map((fact) => (
            <span key={fact} class="dim">
              {fact}
            </span>
          ))}
          <Clock at={row.at} />
        </div>
      );
    case "notice":
      return (
        <span class={`notice notice-${row.level}`}>
          <Inline text={row.text} />
          {row.until !== undefined && (
            <>
              {` · ${row.untilWord ?? "resets"} `}
              <Clock at={row.until} />
            </>
          )}
        </span>
      );
    case "raw":
      return (
        <Fold id={row.key} folds={folds} summary={<Inline text={row.label} />}>
          <Block text={row.text} mono />
        </Fold>
      );
  }
}

const First = ({ text }: { text: string }) => (
  <>
    <Inline text={renderFirstLine(text)} /> <span class="dim">{renderRest(text)}</span>
  </>
);

/** What a turn is for when it is not for messages. */
function Purpose({ purpose }: { purpose: string }) {
  const { chip, words } = describePurpose(purpose);
  if (!chip) return null;
  return (
    <span class="chip chip-kind" data-testid="purpose" title={words}>
      <Inline text={chip} />
    </span>
  );
}

function Prompt({ row }: { row: Extract<Row, { type: "prompt" }> }) {
  return (
    <>
      <div class="t-turn">
        <span>turn</span> <Clock at={row.at} /> <Purpose purpose={row.purpose} />
      </div>
      {row.envelopes.map((envelope, index) => (
        <Letter key={index} envelope={envelope} />
      ))}
      {row.rest && <Block text={row.rest} />}
    </>
  );
}

function Letter({ envelope }: { envelope: Envelope }) {
  return (
    <div class={`letter letter-${envelope.kind}`}>
      <div class="letter-head">
        <Name name={envelope.from} />
        <span class="dim">#{envelope.id}</span>
        {envelope.redelivered && <span class="chip chip-warn">redelivered</span>}
      </div>
      <Block text={envelope.body} />
    </div>
  );
}

function ToolRow({ row, folds }: { row: Extract<Row, { type: "tool" }>; folds: Folds }) {
  return (
    <Fold
      id={row.key}
      folds={folds}
      summary={
        <>
          <Outcome row={row} />
          <span class="tool-name">
            <Inline text={row.name} />
          </span>
          <span class="tool-summary">
            <Inline text={row.summary} />
          </span>
        </>
      }
    >
      {row.denied && (
        <p class="reason">
          denied: <Inline text={row.denied} />
        </p>
      )}
      {row.input && <Block text={row.input} mono />}
      {row.result && !(row.denied && row.result.text.endsWith(row.denied)) && (
        <div class={row.result.failed ? "tool-result tool-failed" : "tool-result"}>
          <Block text={row.result.text || "(no output)"} mono />
        </div>
      )}
    </Fold>
  );
}

function Outcome({ row }: { row: Extract<Row, { type: "tool" }> }) {
  const [sign, tone, words] = toolOutcome(row);
  return (
    <span class={`sign tone-${tone}`} role="img" aria-label={words}>
      {sign}
    </span>
  );
}

function toolOutcome(row: Extract<Row, { type: "tool" }>): [sign: string, tone: string, words: string] {
  if (row.denied) return ["⊘", "warn", "denied"];
  if (row.result === null) return ["…", "work", "no result yet"];
  return row.result.failed ? ["✕", "bad", "failed"] : ["✓", "good", "done"];
}

interface FoldProps {
  id: string;
  folds: Folds;
  summary: ComponentChildren;
  children: ComponentChildren;
}

/** Its content is built only while it is open: a transcript holds megabytes of results nobody looks at. */
function Fold({ id, folds, summary, children }: FoldProps) {
  const open = useComputed(() => folds.value.has(id)).value;
  return (
    <details
      open={open}
      onToggle={(event) => {
        const isOpen = event.currentTarget.open;
        if (isOpen === folds.peek().has(id)) return;
        const next = new Set(folds.peek());
        if (isOpen) next.add(id);
        else next.delete(id);
        folds.value = next;
      }}
    >
      <summary>{summary}</summary>
      {open && <div class="fold-body">{children}</div>}
    </details>
  );
}
