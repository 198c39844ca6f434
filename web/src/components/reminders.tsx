import { useComputed } from "@preact/signals";
import type { Reminder, ScheduledMessage } from "../api_types.ts";
import { useApp } from "../context.ts";
import { type Fetched, useFetched } from "../fetched.ts";
import { now, renderClock, renderDuration } from "../time.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Block, Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** What an agent wants to be told later, kept current. */
export function useReminders(agent: string): Fetched<Reminder[]> {
  const { api, reminderEpochs } = useApp().store;
  return useFetched(`reminders-${agent}`, () => api.reminders(agent), reminderEpochs.of(agent));
}

/** What an agent is sent later: what it asked for itself, and what its config says. */
export function Reminders({ agent, fetched }: { agent: string; fetched: Fetched<Reminder[]> }) {
  const rows = fetched.value.value;
  return (
    <section class="panel" aria-label={`reminders of ${agent}`} data-testid="reminders">
      <h3>reminders</h3>
      <FetchNote fetched={fetched} what="the reminders" />
      {rows?.length === 0 && <p class="empty">none is set. {agent} sets its own, by remind_me</p>}
      <ul class="versions">
        {rows?.map((row) => (
          <ReminderRow key={row.id} row={row} onDone={fetched.fetchNow} />
        ))}
      </ul>
      <Schedules agent={agent} />
    </section>
  );
}

/** The messages that the agent's config has it sent again and again. */
function Schedules({ agent }: { agent: string }) {
  const { api, reminderEpochs, epochs } = useApp().store;
  const epoch = useComputed(() => reminderEpochs.of(agent).value + epochs.of(agent).value);
  const fetched = useFetched(`schedules-${agent}`, () => api.schedules(agent), epoch);
  const rows = fetched.value.value ?? [];
  return (
    <>
      <FetchNote fetched={fetched} what="the schedule" />
      {rows.length > 0 && <h3>schedule, in UTC</h3>}
      <ul class="versions" data-testid="schedules">
        {rows.map((row, index) => (
          <ScheduleRow key={index} row={row} />
        ))}
      </ul>
    </>
  );
}

function ScheduleRow({ row }: { row: ScheduledMessage }) {
  return (
    <li class="version">
      <span class="version-what">
        <code>
          <Inline text={row.cron} />
        </code>
        {row.next_at === null ? (
          <span class="tone-warn">never comes</span>
        ) : (
          <span>
            next <time dateTime={row.next_at}>{renderClock(row.next_at)}</time>{" "}
            <span class="dim">in {renderDuration(Date.parse(row.next_at) - now.value)}</span>
          </span>
        )}
        {row.last_at !== null && (
          <span class="dim">
            sent <Age at={row.last_at} /> ago
          </span>
        )}
      </span>
      <div class="version-text">
        <Block text={row.message} />
      </div>
    </li>
  );
}

function ReminderRow({ row, onDone }: { row: Reminder; onDone: () => Promise<void> }) {
  const { api } = useApp().store;
  const left = Date.parse(row.due_at) - now.value;
  return (
    <li class="version" data-testid={`reminder-${row.id}`}>
      <span class="version-what">
        <time dateTime={row.due_at}>{renderClock(row.due_at)}</time>
        <span class={left <= 0 ? "tone-warn" : "dim"}>
          {left <= 0 ? "due" : `in ${renderDuration(left)}`}
        </span>
        <span class="dim">
          set <Age at={row.created_at} /> ago
        </span>
      </span>
      <Act
        label={`cancel reminder ${row.id} of ${row.agent}`}
        testId="reminder-cancel"
        confirm="cancel this reminder?"
        run={async () => {
          await api.cancelReminder(row.id);
          await onDone();
          return "the reminder is cancelled";
        }}
      >
        cancel
      </Act>
      <div class="version-text">
        <Block text={row.note} />
      </div>
    </li>
  );
}
