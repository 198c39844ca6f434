import { useSignal } from "@preact/signals";
import { parseToken } from "../token.ts";

/** Shown when there is no operator session. The session itself is opened by a plain navigation to /login. */
export function LoginPage() {
  const pasted = useSignal("");
  const refused = new URLSearchParams(location.search).get("login") === "refused";
  const token = parseToken(pasted.value);
  const wrong = pasted.value.trim() !== "" && token === "";
  return (
    <main class="login" data-testid="login">
      <p class="brand">
        <span aria-hidden="true">⬢</span> hyperhive
      </p>
      <h1>sign in</h1>
      {document.documentElement.hasAttribute("data-rehearsal") && (
        <p class="banner banner-rehearsal" data-testid="banner-rehearsal">
          rehearsal: no model behind this
        </p>
      )}
      {refused && (
        <p class="banner banner-lost" role="alert" data-testid="login-refused">
          that link was not accepted: a link opens one session, once
        </p>
      )}
      <p>On the machine that runs the hive:</p>
      <pre class="command">hive url</pre>
      <p>Open the link it prints, or paste it here:</p>
      <form
        class="inline-form"
        onSubmit={(event) => {
          event.preventDefault();
          // Only the token is taken from what was pasted: the address is always this hive's own.
          if (token) location.assign(`/login?token=${encodeURIComponent(token)}`);
        }}
      >
        <input
          type="password"
          autocomplete="off"
          spellcheck={false}
          placeholder="link or token"
          aria-label="link or token"
          aria-invalid={wrong}
          data-testid="login-token"
          onInput={(event) => (pasted.value = event.currentTarget.value)}
        />
        <button
          type="submit"
          class="act act-good"
          data-testid="login-submit"
          aria-disabled={!token || undefined}
        >
          sign in
        </button>
      </form>
      {wrong && <p class="rule rule-broken">there is no token in that</p>}
    </main>
  );
}
