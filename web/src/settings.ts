import { computed, effect, signal } from "@preact/signals";
import { readItem, writeItem } from "./storage.ts";

const PLAIN_TITLES = "hyperhive.plain-titles";

/** Section titles in plain words instead of leetspeak; remembered by this browser. */
export const plainTitles = signal(readItem("localStorage", PLAIN_TITLES) === "1");

effect(() => writeItem("localStorage", PLAIN_TITLES, plainTitles.value ? "1" : ""));

const SIDE_BY_SIDE = "hyperhive.side-by-side";

/** Diffs side by side instead of unified; remembered by this browser. */
export const sideBySide = signal(readItem("localStorage", SIDE_BY_SIDE) === "1");

effect(() => writeItem("localStorage", SIDE_BY_SIDE, sideBySide.value ? "1" : ""));

export type Theme = "system" | "dark" | "light";
export const THEMES: readonly Theme[] = ["system", "dark", "light"];

const THEME = "hyperhive.theme";

/** Light or dark, or as the system has it; remembered by this browser. */
export const theme = signal<Theme>(THEMES.find((one) => one === readItem("localStorage", THEME)) ?? "system");

effect(() => {
  writeItem("localStorage", THEME, theme.value === "system" ? "" : theme.value);
  const { dataset } = document.documentElement;
  if (theme.value === "system") delete dataset.theme;
  else dataset.theme = theme.value;
});

const lightQuery = window.matchMedia("(prefers-color-scheme: light)");
const systemIsLight = signal(lightQuery.matches);
lightQuery.addEventListener("change", () => {
  systemIsLight.value = lightQuery.matches;
});

/** Whether the pages are light now: for what paints by itself, such as a canvas. Style sheets know without it. */
export const isLight = computed(() =>
  theme.value === "system" ? systemIsLight.value : theme.value === "light",
);

const SHORTCUTS = "hyperhive.shortcuts";

/** Whether single keys do something outside of fields; remembered by this browser. */
export const shortcuts = signal(readItem("localStorage", SHORTCUTS) !== "off");

effect(() => writeItem("localStorage", SHORTCUTS, shortcuts.value ? "" : "off"));

/** Too narrow for two columns of code, such as a phone. */
const narrowQuery = window.matchMedia("(max-width: 40rem)");
export const narrow = signal(narrowQuery.matches);
narrowQuery.addEventListener("change", () => {
  narrow.value = narrowQuery.matches;
});
