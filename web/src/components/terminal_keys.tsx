import { BAR_KEYS } from "../terminal/keys.ts";
import type { Session } from "../terminal/session.ts";

/** The keys that a phone has not. They leave the focus where it is, so that its keyboard stays. */
export function TerminalKeys({ session }: { session: Session }) {
  const held = session.controlHeld.value;
  return (
    <div class="terminal-keys" role="toolbar" aria-label="keys" data-testid="terminal-keys">
      <button
        type="button"
        class="act"
        aria-pressed={held}
        aria-label="hold ctrl for the next key"
        data-testid="key-ctrl"
        onPointerDown={(event) => event.preventDefault()}
        onClick={() => session.holdControl(!held)}
      >
        ctrl
      </button>
      {BAR_KEYS.map((key) => (
        <button
          key={key.name}
          type="button"
          class="act"
          aria-label={key.name === "escape" ? "esc, escape" : key.name}
          data-testid={`key-${key.name}`}
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => session.press(key)}
        >
          {key.label}
        </button>
      ))}
    </div>
  );
}
