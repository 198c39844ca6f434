import { renderFirstLine } from "../text.ts";
import { asFields, asList, asText, type Fields, renderJson } from "./json.ts";

/** The input that tells most about a call, by tool; the first one present is shown. */
const TELLING = [
  "command",
  "file_path",
  "notebook_path",
  "pattern",
  "url",
  "query",
  "description",
  "question",
  "name",
];

/** A tool's name for people: `mcp__hyperhive__send` is `hive send`. */
export function renderToolName(name: string): string {
  const mcp = /^mcp__(.+?)__(.+)$/.exec(name);
  if (!mcp) return name;
  return `${mcp[1] === "hyperhive" ? "hive" : mcp[1]} ${mcp[2]}`;
}

/** One line on what a call does. */
export function renderToolSummary(name: string, input: Fields): string {
  if (name === "mcp__hyperhive__send") return `→ ${asText(input.to)}: ${renderFirstLine(asText(input.body))}`;
  for (const key of TELLING) {
    const value = asText(input[key]);
    if (value) return renderFirstLine(value);
  }
  const text = JSON.stringify(input);
  return text === "{}" ? "" : renderFirstLine(text);
}

/** A call's whole input: one value as it is, several as named blocks. */
export function renderToolInput(input: Fields): string {
  const entries = Object.entries(input);
  if (entries.length === 1) return renderJson(entries[0]?.[1]);
  return entries
    .map(([key, value]) => {
      const text = renderJson(value);
      return text.includes("\n") ? `${key}:\n${text}` : `${key}: ${text}`;
    })
    .join("\n");
}

/** The content of a tool_result block: text, or a list of blocks of which pictures are only named. */
export function renderToolResult(content: unknown): string {
  if (typeof content === "string") return unwrapResult(content);
  return asList(content)
    .map((block) => {
      const { type, text } = asFields(block);
      return type === "text" ? unwrapResult(asText(text)) : `[${asText(type) || "unknown"}]`;
    })
    .join("\n");
}

/** An MCP server of the plain kind wraps its text as `{"result": "…"}`. */
function unwrapResult(text: string): string {
  if (!text.startsWith('{"result":')) return text;
  try {
    const fields = asFields(JSON.parse(text));
    return Object.keys(fields).length === 1 && typeof fields.result === "string" ? fields.result : text;
  } catch {
    return text;
  }
}
