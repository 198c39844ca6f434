import { asFields, asList, asText, type Fields } from "./json.ts";

/**
 * The events of the CLI that have no row of their own, each with the reason. Whatever is not in here is shown: as what
 * it is, or raw. A test compares this list with what `reduceClaude` does with every recording.
 */
const SILENT: [reason: string, is: (event: Fields) => boolean][] = [
  ["pieces of a message that follows whole", ofType("stream_event")],
  ["times a command, which has its own events", ofType("command_lifecycle")],
  ["only says that the connection lives", ofType("keep_alive")],
  ["anticipates a tool's result", ofType("tool_progress")],
  ["between the harness and claude; what comes of it has events", ofType("control_request")],
  ["between the harness and claude; what comes of it has events", ofType("control_response")],
  ["counts a thought that follows whole", ofSubtype("thinking_tokens")],
  ["what a rule denied is told with the call", ofType("hive.tool_denied")],
  ["announces a hook; what it decides is told with the call", ofSubtype("hook_started")],
  ["what a hook decided is told with the call", isQuietHook],
  ["which commands exist does not concern a transcript", ofSubtype("commands_changed")],
  ["a call that takes long is a task as well; it has its row", isTaskOfCall],
  [
    "no task is running any more",
    (event) => ofSubtype("background_tasks_changed")(event) && hasNone(event.tasks),
  ],
  ["a session begins with all its servers connected", isPlainInit],
  ["the end of what was said to begin", (event) => ofSubtype("status")(event) && isPlainStatus(event)],
  [
    "a turn that went well is told by the harness",
    (event) => event.type === "result" && event.is_error !== true,
  ],
  ["nothing to say about the usage limit", isAllowed],
  ["the wake prompt, or the answer of a command, again", isReplay],
  ["empty text or an empty thought", isEmpty],
];

/** Why this event has no row; empty when it has one, or changes one. */
export function explainSilence(event: Fields): string {
  return SILENT.find(([, is]) => is(event))?.[0] ?? "";
}

function ofType(type: string) {
  return (event: Fields) => event.type === type;
}

function ofSubtype(subtype: string) {
  return (event: Fields) => event.type === "system" && event.subtype === subtype;
}

/** A hook of ours that refuses exits with 2; one that broke does so with something else, and has a row. */
function isQuietHook(event: Fields): boolean {
  return ofSubtype("hook_response")(event) && (event.exit_code === 0 || event.exit_code === 2);
}

function isTaskOfCall(event: Fields): boolean {
  return ofSubtype("task_started")(event) && asText(event.tool_use_id) !== "";
}

const hasNone = (list: unknown) => asList(list).length === 0;

function isPlainInit(event: Fields): boolean {
  return ofSubtype("init")(event) && findUnconnected(event).length === 0;
}

/** The MCP servers that a session has to do without. */
export function findUnconnected(event: Fields): Fields[] {
  return asList(event.mcp_servers)
    .map(asFields)
    .filter((server) => server.status !== "connected");
}

function isPlainStatus(event: Fields): boolean {
  const status = asText(event.status);
  const failed = event.compact_result !== undefined && event.compact_result !== "success";
  return (status === "" || status === "requesting") && !failed;
}

function isAllowed(event: Fields): boolean {
  return event.type === "rate_limit_event" && asFields(event.rate_limit_info).status === "allowed";
}

function isReplay(event: Fields): boolean {
  return (
    event.type === "user" &&
    event.isReplay === true &&
    blocksOf(event).every((block) => block.type === "text")
  );
}

function isEmpty(event: Fields): boolean {
  if (event.type !== "assistant") return false;
  return blocksOf(event).every(isEmptyBlock);
}

export const isEmptyBlock = ({ type, text, thinking }: Fields) =>
  (type === "text" && asText(text).trim() === "") || (type === "thinking" && asText(thinking).trim() === "");

/** What a message consists of; a plain text is one block. */
export function blocksOf(event: Fields): Fields[] {
  const { content } = asFields(event.message);
  return typeof content === "string" ? [{ type: "text", text: content }] : asList(content).map(asFields);
}
