import { effect, signal } from "@preact/signals";
import { readItem, writeItem } from "./storage.ts";

const PLAIN_TITLES = "hyperhive.plain-titles";

/** Section titles in plain words instead of leetspeak; remembered by this browser. */
export const plainTitles = signal(readItem("localStorage", PLAIN_TITLES) === "1");

effect(() => writeItem("localStorage", PLAIN_TITLES, plainTitles.value ? "1" : ""));

const SIDE_BY_SIDE = "hyperhive.side-by-side";

/** Diffs side by side instead of unified; remembered by this browser. */
export const sideBySide = signal(readItem("localStorage", SIDE_BY_SIDE) === "1");

effect(() => writeItem("localStorage", SIDE_BY_SIDE, sideBySide.value ? "1" : ""));

/** Too narrow for two columns of code, such as a phone. */
const narrowQuery = window.matchMedia("(max-width: 40rem)");
export const narrow = signal(narrowQuery.matches);
narrowQuery.addEventListener("change", () => {
  narrow.value = narrowQuery.matches;
});
