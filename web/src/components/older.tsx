import { useSignal } from "@preact/signals";
import type { Message } from "../api_types.ts";
import { MESSAGE_PAGE } from "../store.ts";
import type { Table } from "../table.ts";
import { Act } from "./act.tsx";

interface OlderProps {
  table: Table<number, Message>;
  fetchPage: (before: number) => Promise<Message[]>;
  testId: string;
}

/** Fetches the page of messages before the oldest one shown. */
export function Older({ table, fetchPage, testId }: OlderProps) {
  const ended = useSignal(false);
  const ids = table.keys.value;
  const oldest = ids.at(-1);
  if (ended.value || oldest === undefined || ids.length < MESSAGE_PAGE) return null;
  return (
    <Act
      label="load older messages"
      testId={testId}
      run={async () => {
        const page = await fetchPage(oldest);
        ended.value = page.length < MESSAGE_PAGE;
        table.put(...page);
        return page.length === 0 ? "there is nothing older" : "";
      }}
    >
      older
    </Act>
  );
}
