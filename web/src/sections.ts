import { useEffect, useRef } from "preact/hooks";
import { fragment, navigate, route } from "./route.ts";

/** A section of the dashboard: by what it is found, what it is called, and the key that leads to it after `g`. */
export interface SectionPlace {
  id: string;
  title: string;
  key: string;
}

export const SECTIONS: readonly SectionPlace[] = [
  { id: "needs", title: "needs you", key: "n" },
  { id: "containers", title: "containers", key: "c" },
  { id: "kept", title: "kept state", key: "k" },
  { id: "drafts", title: "drafts", key: "d" },
  { id: "questions", title: "questions to you", key: "q" },
  { id: "inbox", title: "operator inbox", key: "i" },
  { id: "approvals", title: "pending approvals", key: "a" },
  { id: "flow", title: "message flow", key: "m" },
];

const PREFIX = "section-";

/** Gives a section of this page the focus. Tells whether it is there: some are not while they are empty. */
export function showSection(id: string): boolean {
  const element = document.getElementById(PREFIX + id);
  if (element === null) return false;
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: "start" });
  return true;
}

/** Goes to a section of the dashboard, from wherever one is. False when the dashboard has none like that now. */
export function goToSection(id: string): boolean {
  if (route.peek().page === "dashboard") return showSection(id);
  navigate(`/#${PREFIX}${id}`);
  return true;
}

/** Follows the address to a section, once it is there. `mark` changes when there may be others. */
export function useSectionLink(mark: unknown): void {
  const wanted = fragment.value;
  const done = useRef<object | null>(null);
  useEffect(() => {
    if (done.current === wanted || !wanted.id.startsWith(PREFIX)) return;
    if (document.activeElement?.matches("input, textarea, select")) return;
    if (showSection(wanted.id.slice(PREFIX.length))) done.current = wanted;
  }, [wanted, mark]);
}

/** The sections of the page that is shown now, as they are called. */
export function findSections(): { id: string; title: string }[] {
  const found = document.querySelectorAll<HTMLElement>(`main section[id^="${PREFIX}"]`);
  return [...found].map((element) => ({
    id: element.id.slice(PREFIX.length),
    title: element.getAttribute("aria-label") ?? "",
  }));
}
