import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ApiError } from "../api.ts";
import type { AgentRow, Login } from "../api_types.ts";
import { useApp } from "../context.ts";
import { now, renderClock, renderDuration } from "../time.ts";
import { Act, useAct } from "./act.tsx";
import { Exact, Inline } from "./text.tsx";

/** How far a login is. `error` is why the last code was not taken, or not known to be. */
export type LoginStep =
  | { at: "start"; error?: string }
  | { at: "code"; url: string; error: string }
  | { at: "done"; login: Login };

/** Where the operator of such a login is sent, and nowhere else. */
const SERVICE = ["claude.com", "claude.ai", "anthropic.com"];

export const needsLogin = (row: AgentRow) =>
  row.state === "needs_login" || row.login === "none" || row.park?.kind === "login";

/** Logs claude in for one agent: a link, then the code that the page behind it gives. `step` outlives the box. */
export function LoginBox({
  row,
  step,
  onClose,
}: {
  row: AgentRow;
  step: Signal<LoginStep>;
  onClose: () => void;
}) {
  const now = step.value;
  return (
    <section
      class="panel login-box"
      aria-label={`login of ${row.name}`}
      data-testid="login-box"
      data-at={now.at}
    >
      <div class="panel-head">
        <h3>login</h3>
        <button type="button" class="link" data-testid="login-close" onClick={onClose}>
          close
        </button>
      </div>
      {now.at !== "done" && <Known row={row} />}
      {now.at === "start" && (row.login !== "hive" || needsLogin(row)) && <Start row={row} step={step} />}
      {now.at === "code" && <EnterCode row={row} step={step} url={now.url} error={now.error} />}
      {now.at === "done" && (
        <p role="status" data-testid="login-done">
          <span class="tone-good">✓ logged in</span>{" "}
          <Account account={now.login.account} expires={now.login.expires_at} />
        </p>
      )}
    </section>
  );
}

/** What is known of the login that claude has now. */
function Known({ row }: { row: AgentRow }) {
  if (row.login === "own")
    return (
      <p data-testid="login-known">
        <Account account={row.login_account} expires={row.login_expires_at} />
        {needsLogin(row) && <span class="tone-warn"> · not accepted any more</span>}
      </p>
    );
  const words: Record<string, string> = {
    none: "claude has no login here",
    hive: "no login is needed: the hive adds what requests need on their way",
  };
  return <p data-testid="login-known">{words[row.login] ?? "not known yet whether claude has a login"}</p>;
}

function Account({ account, expires }: { account: string; expires: string | null }) {
  return (
    <>
      login of {account ? <Inline text={account} /> : "an account whose name is not known"}
      {expires !== null && <Expiry at={expires} />}
    </>
  );
}

function Expiry({ at }: { at: string }) {
  const left = Date.parse(at) - now.value;
  return left <= 0 ? (
    <span class="tone-warn">, expired {renderClock(at)}</span>
  ) : (
    <span class="dim">
      , expires {renderClock(at)} (in {renderDuration(left)})
    </span>
  );
}

interface StepProps {
  row: AgentRow;
  step: Signal<LoginStep>;
}

function Start({ row, step }: StepProps) {
  return (
    <>
      {step.value.at === "start" && step.value.error && (
        <p class="rule rule-broken" role="alert" data-testid="login-error">
          <Inline text={step.value.error} />: log in again, with the link that you get then
        </p>
      )}
      <div class="acts">
        <BeginAct row={row} step={step}>
          {row.login === "own" ? "log in again" : "log in"}
        </BeginAct>
        <span class="dim">gives a link: sign in there, and bring back the code it shows</span>
      </div>
    </>
  );
}

function BeginAct({ row, step, children }: StepProps & { children: string }) {
  const { api } = useApp().store;
  return (
    <Act
      label={`${children}: ${row.name}`}
      testId="login-start"
      kind={step.value.at === "start" ? "good" : "plain"}
      run={async () => {
        // The hive gives the link of a login that was begun already: a new one needs an end of that.
        if (step.peek().at === "code") await api.cancelLogin(row.name);
        const { url } = await api.startLogin(row.name);
        step.value = { at: "code", url, error: "" };
        return "";
      }}
    >
      {children}
    </Act>
  );
}

function EnterCode({ row, step, url, error }: StepProps & { url: string; error: string }) {
  const { api } = useApp().store;
  return (
    <>
      <LoginLink url={url} />
      <CodeForm row={row} step={step} url={url} error={error} />
      <div class="acts">
        <BeginAct row={row} step={step}>
          begin anew
        </BeginAct>
        <Act
          label={`cancel the login of ${row.name}`}
          testId="login-cancel"
          run={async () => {
            await api.cancelLogin(row.name);
            step.value = { at: "start" };
            return "the login is cancelled";
          }}
        >
          cancel
        </Act>
      </div>
    </>
  );
}

/** The link comes out of a container: it can be followed only if it is https, and where it leads is said first. */
function LoginLink({ url }: { url: string }) {
  const host = parseHttpsHost(url);
  const service = host !== null && SERVICE.some((name) => host === name || host.endsWith(`.${name}`));
  return (
    <div class="login-link">
      <span class="dim">1. sign in at </span>
      {host === null ? (
        <>
          <span class="tone-warn">a link that is not https, and can only be copied:</span>{" "}
          <code class="login-url" data-testid="login-url">
            <Exact text={url} />
          </code>
        </>
      ) : (
        <>
          <a
            class="act act-good"
            href={url}
            target="_blank"
            rel="noopener noreferrer"
            data-testid="login-link"
          >
            <Exact text={host} />
            <span class="visually-hidden"> (opens in a new tab)</span>
            <span aria-hidden="true"> ↗</span>
          </a>
          {!service && (
            <p class="banner banner-warn" role="alert" data-testid="login-foreign">
              this is no address of the service that is known here: look well before you sign in there
            </p>
          )}
          <code class="login-url dim" data-testid="login-url">
            <Exact text={url} />
          </code>
        </>
      )}
    </div>
  );
}

/** The host of an https address; null for anything else. */
export function parseHttpsHost(url: string): string | null {
  try {
    const parsed = new URL(url);
    return parsed.protocol === "https:" && parsed.hostname !== "" && parsed.username === ""
      ? parsed.host
      : null;
  } catch {
    return null;
  }
}

/** The code is a secret for some minutes: it is kept in the field and nowhere else. */
function CodeForm({ row, step, url, error }: StepProps & { url: string; error: string }) {
  const { api } = useApp().store;
  const code = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), [url]);
  const { busy, start } = useAct({
    run: async () => {
      try {
        const login = await api.finishLogin(row.name, code.peek().trim());
        step.value = { at: "done", login };
        return `${row.name} is logged in`;
      } catch (failure) {
        const error = failure instanceof Error ? failure.message : String(failure);
        // A code that was not taken ends the login. Where nothing is known, it can be tried again.
        const ended = failure instanceof ApiError && failure.status >= 400 && failure.status < 500;
        step.value = ended ? { at: "start", error } : { at: "code", url, error };
        field.current?.select();
        throw failure;
      }
    },
  });
  const empty = code.value.trim() === "";
  return (
    <form
      class="inline-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (!empty) void start();
      }}
    >
      <label class="login-code">
        <span class="dim">2. paste the code</span>
        <input
          ref={field}
          type="password"
          autocomplete="off"
          spellcheck={false}
          maxLength={4096}
          aria-label={`the code of the login of ${row.name}`}
          aria-invalid={error !== ""}
          aria-describedby="login-error"
          data-testid="login-code"
          value={code.value}
          onInput={(event) => (code.value = event.currentTarget.value)}
        />
      </label>
      <button
        type="submit"
        class="act act-good"
        aria-busy={busy.value}
        aria-disabled={busy.value || empty || undefined}
        data-testid="login-submit"
      >
        {busy.value && <span class="spinner" aria-hidden="true" />}
        finish
      </button>
      <p id="login-error" class="rule rule-broken login-error" role="alert">
        {error && (
          <span data-testid="login-error">
            <Inline text={error} />: try again, or begin anew
          </span>
        )}
      </p>
    </form>
  );
}
