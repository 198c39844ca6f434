import { useSignal } from "@preact/signals";
import type { NewWebhook } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { Act } from "./act.tsx";

const NAME = /^[a-z]+\.([a-z_]+|\*)$/;

export const parseEvents = (text: string): string[] =>
  text
    .split(/[\s,]+/)
    .map((word) => word.trim())
    .filter(Boolean);

/** Has another address told of events. */
export function WebhookForm({ onMade }: { onMade: (made: NewWebhook) => Promise<void> }) {
  const { api } = useApp().store;
  // No draft: what is kept in the tab's storage should hold no secret, and many addresses do.
  const url = useSignal("");
  const events = useDraft("webhook-events");
  const bodies = useSignal(false);
  const wrong = parseEvents(events.value).some((name) => !NAME.test(name));
  return (
    <fieldset class="webhook-form" data-testid="webhook-form">
      <legend>tell another address</legend>
      <label for="webhook-url">address</label>
      <input
        id="webhook-url"
        type="text"
        inputMode="url"
        autocapitalize="none"
        maxLength={1000}
        autocomplete="off"
        spellcheck={false}
        placeholder="https://hooks.example.com/hive"
        aria-describedby="webhook-url-rule"
        data-testid="webhook-url"
        value={url.value}
        onInput={(event) => (url.value = event.currentTarget.value)}
      />
      <p id="webhook-url-rule" class="rule">
        https at a public address; only its host is shown from then on
      </p>
      <label for="webhook-events">events</label>
      <input
        id="webhook-events"
        type="text"
        maxLength={2000}
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        placeholder="approval.*, agent.crashed"
        aria-invalid={wrong}
        aria-describedby="webhook-events-rule"
        data-testid="webhook-events"
        value={events.value}
        onInput={(event) => (events.value = event.currentTarget.value)}
      />
      <p id="webhook-events-rule" class={wrong ? "rule rule-broken" : "rule"}>
        names such as agent.crashed or approval.*, with commas between; empty: all events
      </p>
      <label class="toggle">
        <input
          type="checkbox"
          checked={bodies.value}
          data-testid="webhook-bodies"
          onChange={(event) => (bodies.value = event.currentTarget.checked)}
        />
        with the bodies of events, in which are texts of agents
      </label>
      <div class="acts">
        <Act
          label="add the webhook"
          testId="webhook-add"
          kind="good"
          disabled={url.value.trim() === "" || wrong}
          onDone={() => {
            url.value = "";
            events.value = "";
            bodies.value = false;
          }}
          run={async () => {
            const request = {
              url: url.peek().trim(),
              events: parseEvents(events.peek()),
              bodies: bodies.peek(),
            };
            await onMade(await api.addWebhook(request));
            return "the webhook is added: keep its secret";
          }}
        >
          add
        </Act>
      </div>
    </fieldset>
  );
}
