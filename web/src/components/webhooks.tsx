import { useComputed, useSignal } from "@preact/signals";
import type { NewWebhook, WaitingEvent, Webhook } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { now } from "../time.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Empty } from "./section.tsx";
import { Inline } from "./text.tsx";
import { WebhookForm } from "./webhook_form.tsx";
import { Age } from "./when.tsx";

/** What was delivered is no event of the hive's: it is looked at again this often while somebody looks. */
const LOOK_MS = 5_000;

/** The addresses of the operator's that are told of events, what became of that, and a form for another one. */
export function Webhooks() {
  const { api } = useApp().store;
  const epoch = useComputed(() => Math.floor(now.value / LOOK_MS));
  const fetched = useFetched("webhooks", api.webhooks, epoch);
  const made = useSignal<NewWebhook | null>(null);
  const rows = fetched.value.value;
  return (
    <>
      <FetchNote fetched={fetched} what="the webhooks" />
      {rows?.length === 0 && <Empty>no address is told of events</Empty>}
      <ul class="versions">
        {rows?.map((row) => (
          <WebhookRow key={row.id} row={row} onChange={fetched.fetchNow} />
        ))}
      </ul>
      {made.value && <Secret made={made.value} onClose={() => (made.value = null)} />}
      <WebhookForm
        onMade={async (answer) => {
          made.value = answer;
          await fetched.fetchNow();
        }}
      />
    </>
  );
}

/** What cannot be shown again, until it is put away. */
function Secret({ made, onClose }: { made: NewWebhook; onClose: () => void }) {
  return (
    <div class="panel secret" role="status" data-testid="webhook-secret">
      <p>
        webhook {made.webhook.id} is there. Its signatures are made with this secret, which is shown only now:
      </p>
      <div class="inline-form">
        <input
          type="text"
          readOnly
          spellcheck={false}
          aria-label="the secret of the signatures"
          data-testid="webhook-secret-text"
          value={made.secret}
          onFocus={(event) => event.currentTarget.select()}
        />
        <Act
          label="copy the secret"
          testId="webhook-secret-copy"
          run={async () => {
            await navigator.clipboard.writeText(made.secret);
            return "the secret is copied";
          }}
        >
          copy
        </Act>
        <button type="button" class="act" data-testid="webhook-secret-close" onClick={onClose}>
          I have it
        </button>
      </div>
    </div>
  );
}

type State = "new" | "delivered" | "failing";

const stateOf = (row: Webhook): State => (row.error ? "failing" : row.ok_at === null ? "new" : "delivered");

const STATE_WORDS: Record<State, string> = {
  new: "nothing sent yet",
  delivered: "delivered",
  failing: "failing",
};

interface RowProps {
  row: Webhook;
  onChange: () => Promise<void>;
}

function WebhookRow({ row, onChange }: RowProps) {
  const { api } = useApp().store;
  const state = stateOf(row);
  return (
    <li class="version webhook" data-testid={`webhook-${row.id}`} data-state={state}>
      <span class="version-what">
        <span class="dim">{row.id}</span>
        <strong class="webhook-place">
          <Inline text={row.place} />
        </strong>
        <span class={`chip webhook-${state}`} data-testid="webhook-state">
          {STATE_WORDS[state]}
        </span>
        {row.dead > 0 && (
          <span class="chip chip-warn" data-testid="webhook-dead">
            {row.dead} given up
          </span>
        )}
        <span class="dim">
          <Inline text={row.events.join(", ") || "all events"} />
          {row.bodies && ", with their bodies"} · added <Age at={row.added_at} /> ago
          {row.ok_at !== null && (
            <>
              {" "}
              · last taken <Age at={row.ok_at} /> ago
            </>
          )}
        </span>
      </span>
      <div class="acts">
        <Act
          label={`send webhook ${row.id} a test`}
          testId="webhook-test"
          run={async () => {
            const { fault } = await api.tryWebhook(row.id);
            if (fault) throw new Error(`the test was not taken: ${fault}`);
            return "the test was taken";
          }}
        >
          test
        </Act>
        <Act
          label={`remove webhook ${row.id}`}
          testId="webhook-remove"
          kind="danger"
          confirm="remove this webhook? what waits is not sent"
          run={async () => {
            await api.removeWebhook(row.id);
            await onChange();
            return `webhook ${row.id} is removed`;
          }}
        >
          remove
        </Act>
      </div>
      {(row.error || row.waiting) && <Fault row={row} onChange={onChange} />}
      {row.dead_at !== null && (
        <p class="version-text dim" data-testid="webhook-dead-reason">
          the last one was given up <Age at={row.dead_at} /> ago: <Inline text={row.dead_reason} />
        </p>
      )}
    </li>
  );
}

/** Why the last attempt failed, and what may be done about the event that is in the way. */
function Fault({ row, onChange }: RowProps) {
  const { api } = useApp().store;
  const { waiting } = row;
  return (
    <div class="version-text webhook-fault" data-testid="webhook-fault">
      <p class="tone-warn" data-testid="webhook-error">
        the last attempt failed: <Inline text={row.error} />
      </p>
      {waiting && (
        <>
          <p>
            <Waiting event={waiting} />
          </p>
          <div class="acts">
            <Act
              label={`retry now: event ${waiting.id} of webhook ${row.id}`}
              testId="webhook-retry"
              kind="good"
              run={async () => {
                const { fault } = await api.retryWebhook(row.id).finally(onChange);
                if (fault) throw new Error(`it was not taken: ${fault}`);
                return "it was taken: what waits for it is sent now";
              }}
            >
              retry now
            </Act>
            <Act
              label={`drop this event: ${waiting.id} of webhook ${row.id}`}
              testId="webhook-drop"
              kind="danger"
              confirm={`drop event ${waiting.id}? it is never sent to this address`}
              run={async () => {
                await api.dropWebhookEvent(row.id, waiting.id).finally(onChange);
                return `event ${waiting.id} is dropped`;
              }}
            >
              drop this event
            </Act>
          </div>
        </>
      )}
    </div>
  );
}

const Waiting = ({ event }: { event: WaitingEvent }) => (
  <>
    event {event.id}, <Inline text={event.name} />
    {event.agent !== null && (
      <>
        {" "}
        of <Inline text={event.agent} />
      </>
    )}
    , waits for <Age at={event.at} />
    {event.count > 1 && ` with ${event.count - 1} behind it`}: it is tried again until it is 24 hours old
  </>
);
