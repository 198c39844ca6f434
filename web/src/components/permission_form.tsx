import type { Question } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { now } from "../time.ts";
import { Act, type ActProps } from "./act.tsx";
import { Block, Inline } from "./text.tsx";

/** The answers to a permission question, as the hive offers them, and how each is shown. */
const ANSWERS: Record<string, Pick<ActProps, "testId" | "kind" | "children">> = {
  "allow once": { testId: "permission-allow-once", kind: "good", children: "allow once" },
  "allow for 30 minutes": { testId: "permission-allow-30m", children: "allow 30 min" },
  deny: { testId: "permission-deny", kind: "danger", children: "deny" },
};

/** What the hive says of a call comes first; what the agent wrote stands apart from it, after the first empty line. */
export function PermissionText({ text }: { text: string }) {
  const end = text.indexOf("\n\n");
  if (end < 0) return <Block text={text} mono exact />;
  return (
    <>
      <Block text={text.slice(0, end)} exact />
      <div class="permission-call">
        <Block text={text.slice(end + 2)} mono exact />
      </div>
    </>
  );
}

/** A tool call waits: one click answers. What is written goes with a denial, to the agent. */
export function PermissionForm({ row }: { row: Question }) {
  const { api } = useApp().store;
  const reason = useDraft(`answer-${row.id}`);
  const expired = Date.parse(row.expires_at) <= now.value;
  return (
    <div class="answer">
      <div class="acts">
        {row.options.map((option) => {
          const known = Object.hasOwn(ANSWERS, option) ? ANSWERS[option] : undefined;
          return (
            <Act
              key={option}
              kind="plain"
              label={`${option}: the call of ${row.agent}`}
              until={row.status}
              disabled={expired}
              onDone={() => (reason.value = "")}
              run={async () => {
                const text = option === "deny" ? reason.peek().trim() : "";
                await api.answer(row.id, { options: [option], text });
                return `${row.agent}: ${option}`;
              }}
              {...known}
              testId={known?.testId ?? "permission-other"}
            >
              {known?.children ?? <Inline text={option} />}
            </Act>
          );
        })}
        <span class="dim">{expired ? "denied: nobody answered" : "denied if nobody answers"}</span>
      </div>
      <input
        type="text"
        maxLength={2000}
        placeholder={`why not, for ${row.agent}`}
        aria-label={`reason to deny the call of ${row.agent}`}
        data-testid="permission-reason"
        value={reason.value}
        onInput={(event) => (reason.value = event.currentTarget.value)}
      />
    </div>
  );
}
