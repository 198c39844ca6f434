import type { ComponentChildren } from "preact";
import { useApp } from "../context.ts";
import { overlay } from "../overlay.ts";
import { plainTitles, THEMES, type Theme, theme } from "../settings.ts";
import { Act } from "./act.tsx";
import { Banners } from "./banner.tsx";
import { SingleKeys } from "./keyboard.tsx";
import { Link } from "./link.tsx";
import { Inline } from "./text.tsx";

const CONNECTION = {
  connecting: "connecting",
  up: "live",
  down: "connection lost",
  asleep: "asleep",
};

interface FrameProps {
  /** What stands beside the brand: where one is. */
  heading: ComponentChildren;
  /** The page fills the screen and scrolls inside itself. */
  tall?: boolean;
  children: ComponentChildren;
}

/** What every page has: the brand, the connection, the settings, the banners. */
export function Frame({ heading, tall, children }: FrameProps) {
  const { state } = useApp().connection.value;
  return (
    <div class={tall ? "page page-tall" : "page"}>
      <SkipLink />
      <header class="top">
        <Link to="/" class="brand">
          <span aria-hidden="true">⬢</span> <span class="brand-words">hyperhive</span>
        </Link>
        <h1 class="heading">{heading}</h1>
        <NeedsCount />
        <Link to="/stats/" class="top-link" data-testid="stats-link">
          stats
        </Link>
        <PaletteButton />
        <PauseAll />
        <span class={`link-state link-${state}`} data-testid="connection" data-state={state}>
          <span aria-hidden="true" class="dot" /> <span class="link-words">{CONNECTION[state]}</span>
        </span>
      </header>
      <Banners />
      <main id="main" tabIndex={-1} class="main">
        {children}
      </main>
    </div>
  );
}

/** The first thing that Tab reaches: past what stands above every page. */
const SkipLink = () => (
  // biome-ignore lint/a11y/useValidAnchor: it is a link to a part of the page, and the address stays what it is
  <a
    class="skip"
    href="#main"
    onClick={(event) => {
      event.preventDefault();
      document.getElementById("main")?.focus();
    }}
  >
    skip to the content
  </a>
);

const PaletteButton = () => (
  <button
    type="button"
    class="act act-quiet palette-open"
    aria-keyshortcuts="Control+K Meta+K"
    data-testid="palette-open"
    onClick={() => (overlay.value = "palette")}
  >
    go to<kbd> ctrl k</kbd>
  </button>
);

/** How many things wait for the operator, with the way there. Told by itself when it changes. */
function NeedsCount() {
  const { store } = useApp();
  const count = store.needs.keys.value.length;
  return (
    <span role="status" class="needs-count" data-testid="needs-count">
      {count > 0 && (
        <Link to="/#needs" class="needs-link">
          {count}
          <span class="needs-words"> need{count === 1 ? "s" : ""} you</span>
        </Link>
      )}
    </span>
  );
}

/** Stops all agents from beginning turns, and lets them again. */
function PauseAll() {
  const { store } = useApp();
  const hive = store.hive.value;
  if (hive === null) return null;
  const paused = hive.park?.kind === "paused";
  const until = `${hive.park?.kind} ${hive.park?.since}`;
  return paused ? (
    <Act
      key="resume"
      label="resume all agents"
      testId="resume-all"
      kind="good"
      until={until}
      run={async () => {
        await store.api.resumeAll();
        return "the hive goes on";
      }}
    >
      resume all
    </Act>
  ) : (
    <Act
      key="pause"
      label="pause all agents"
      testId="pause-all"
      until={until}
      run={async () => {
        await store.api.pauseAll();
        return "the whole hive is paused: running turns end, messages wait";
      }}
    >
      pause all
    </Act>
  );
}

/** What this hive is, and what belongs to nobody else's section. */
export function Footer() {
  const { store } = useApp();
  const hive = store.hive.value;
  return (
    <footer class="foot">
      {hive && (
        <span class="dim" data-testid="hive-facts">
          {hive.version} · {hive.driver} · <Inline text={hive.upstream} /> ·{" "}
          {renderCredential(hive.credential)}
        </span>
      )}
      <span class="foot-acts">
        <label class="toggle">
          <input
            type="checkbox"
            checked={plainTitles.value}
            data-testid="plain-titles"
            onChange={(event) => (plainTitles.value = event.currentTarget.checked)}
          />
          plain titles
        </label>
        <label class="theme-choice">
          colours
          <select
            data-testid="theme"
            value={theme.value}
            onChange={(event) => (theme.value = event.currentTarget.value as Theme)}
          >
            {THEMES.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <Link to="/stats/" class="link">
          stats
        </Link>
        <Link to="/programs/" class="link">
          programs
        </Link>
        <Link to="/audit/" class="link">
          audit
        </Link>
        <SingleKeys />
        <button type="button" class="link" data-testid="keys-open" onClick={() => (overlay.value = "keys")}>
          shortcuts
        </button>
        <button
          type="button"
          class="link"
          data-testid="sign-out"
          onClick={() => {
            // Signed out or not, the next request tells; the page is left either way.
            void store.api.logout().finally(() => location.assign("/"));
          }}
        >
          sign out
        </button>
      </span>
    </footer>
  );
}

function renderCredential(credential: string): string {
  if (credential === "none") return "no credential held";
  return `${credential.replaceAll("_", " ")} held by the gateway`;
}
