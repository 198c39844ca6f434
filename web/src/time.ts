import { signal } from "@preact/signals";

/** The current instant, moved on once a second while somebody looks. Ages and countdowns hang on it. */
export const now = signal(Date.now());

export function startClock(): () => void {
  const timer = setInterval(() => {
    if (!document.hidden) now.value = Date.now();
  }, 1000);
  return () => clearInterval(timer);
}

/** A duration in its largest two units at most: 8s, 3m, 2h 05m, 4d 3h. */
export function renderDuration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${String(minutes % 60).padStart(2, "0")}m`;
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}

/** A turn's duration: 240 ms, 3.2s, then as `renderDuration`. */
export function renderElapsed(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(1)}s` : renderDuration(milliseconds);
}

/** What is left until an instant; minutes and seconds in the last hour. */
export function renderCountdown(milliseconds: number): string {
  if (milliseconds <= 0) return "expired";
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds >= 3600) return renderDuration(milliseconds);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** The wall-clock time of an instant, with the date when it was not today. */
export function renderClock(at: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString()
    ? time
    : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

/** The day and the minute of an instant, whenever it was. */
export function renderDay(at: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return at;
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  const minute = [date.getHours(), date.getMinutes()];
  const pad = (part: number) => String(part).padStart(2, "0");
  return `${day.map(pad).join("-")} ${minute.map(pad).join(":")}`;
}
