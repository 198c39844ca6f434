import type { MessageList } from "../messages.ts";
import { Act } from "./act.tsx";
import { Inline } from "./text.tsx";

interface OlderProps {
  list: MessageList;
  testId: string;
  /** What stands on the button. */
  children?: string;
}

/** Fetches the page of messages before the oldest one shown. */
export function Older({ list, testId, children = "older" }: OlderProps) {
  if (list.ended.value || !list.loaded.value) return null;
  return (
    <Act
      label="load older messages"
      testId={testId}
      run={async () => {
        await list.older();
        return "";
      }}
    >
      {children}
    </Act>
  );
}

/** The way back from older messages to the newest, which gave way to them. */
export function Newest({ list, testId }: { list: MessageList; testId: string }) {
  if (!list.away.value) return null;
  const count = list.unseen.value;
  return (
    <Act
      label="back to the newest messages"
      testId={testId}
      run={async () => {
        await list.newest();
        return "";
      }}
    >
      ↑ the newest{count > 0 && ` · ${count} new`}
    </Act>
  );
}

/** Why a list is not what the hive has now. */
export function ListError({ list }: { list: MessageList }) {
  if (!list.error.value) return null;
  return (
    <p class="rule rule-broken" role="alert" data-testid="messages-error">
      these may be earlier ones: <Inline text={list.error.value} />{" "}
      <button type="button" class="link" onClick={() => void list.refresh().catch(() => {})}>
        try again
      </button>
    </p>
  );
}
