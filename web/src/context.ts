import { type ReadonlySignal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { createApi } from "./api.ts";
import { type Connection, createConnection } from "./live.ts";
import { createStore, type Store } from "./store.ts";
import { createToasts, type Toasts } from "./toasts.ts";

/** What every component may use. Built once in `main`, or by a test from its own parts. */
export interface App {
  store: Store;
  connection: ReadonlySignal<Connection>;
  toasts: Toasts;
}

export const AppContext = createContext<App | null>(null);

export function useApp(): App {
  const app = useContext(AppContext);
  if (app === null) throw new Error("no AppContext around this component");
  return app;
}

/** The parts of the pages, wired to this origin's API. */
export function createApp() {
  const signedOut = signal(false);
  const onSignedOut = () => {
    signedOut.value = true;
  };
  const store = createStore(createApi({ onSignedOut }));
  return { store, connection: createConnection(), toasts: createToasts(), signedOut, onSignedOut };
}
