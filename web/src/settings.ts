import { effect, signal } from "@preact/signals";
import { readItem, writeItem } from "./storage.ts";

const PLAIN_TITLES = "hyperhive.plain-titles";

/** Section titles in plain words instead of leetspeak; remembered by this browser. */
export const plainTitles = signal(readItem("localStorage", PLAIN_TITLES) === "1");

effect(() => writeItem("localStorage", PLAIN_TITLES, plainTitles.value ? "1" : ""));
