/** What the hive itself tells an agent is JSON: `{"event": "rebuilt", "agent": "scout"}`. */

/** Such a body in a few words, as a person would read it; null for anything else. */
export function renderFact(body: string): string | null {
  const fact = parse(body);
  if (fact === null) return null;
  const { event, agent, ...rest } = fact;
  if (typeof event !== "string" || event === "") return null;
  const words = [event.replaceAll("_", " "), ...(typeof agent === "string" ? [agent] : [])].join(" ");
  return [words, ...Object.entries(rest).flatMap(([key, value]) => renderPart(key, value))].join(" · ");
}

function renderPart(key: string, value: unknown): string[] {
  if (value === null || value === "") return [];
  return [`${key.replaceAll("_", " ")} ${typeof value === "string" ? value : JSON.stringify(value)}`];
}

interface Fact {
  event?: unknown;
  agent?: unknown;
  [key: string]: unknown;
}

function parse(body: string): Fact | null {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && !Array.isArray(value) ? (value as Fact | null) : null;
  } catch {
    return null;
  }
}
