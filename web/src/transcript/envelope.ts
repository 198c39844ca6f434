import type { Envelope } from "./rows.ts";

// The daemon writes a `<` that would open or close a message tag inside a body as `&lt;`, so a body cannot end early.
const ENVELOPE = /<message ([^>\n]*)>\n([\s\S]*?)\n<\/message>/g;
const FIELD = /([a-z_]+)="([^"]*)"/g;

/** The messages a wake prompt carries, and the text around them. */
export function parsePrompt(prompt: string): { envelopes: Envelope[]; rest: string } {
  const envelopes = Array.from(prompt.matchAll(ENVELOPE), ([, fields = "", body = ""]) =>
    parseEnvelope(fields, body),
  );
  return { envelopes, rest: prompt.replace(ENVELOPE, "").trim() };
}

function parseEnvelope(fieldText: string, body: string): Envelope {
  const fields = new Map(Array.from(fieldText.matchAll(FIELD), ([, name, value]) => [name, value] as const));
  return {
    id: fields.get("id") ?? "",
    from: fields.get("from") ?? "unknown",
    kind: fields.get("kind") ?? "",
    redelivered: fields.get("redelivered") === "true",
    body,
  };
}
