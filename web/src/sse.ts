export interface ServerEvent {
  name: string;
  data: string;
}

export interface EventParser {
  /** Takes decoded text as it arrives and returns the events that it completes. Comments complete nothing. */
  feed: (text: string) => ServerEvent[];
  /** The last id seen: what to send as Last-Event-ID. An id may come without data, to say where a stream begins. */
  readonly lastId: string | null;
}

/** A parser of `text/event-stream`. `lastId` is the one an earlier connection ended with. */
export function createEventParser(lastId: string | null = null): EventParser {
  let rest = "";
  let name = "";
  let data: string[] = [];
  let id: string | null = null;

  function takeLine(line: string): ServerEvent | null {
    if (line === "") return dispatch();
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
    return null;
  }

  function dispatch(): ServerEvent | null {
    if (id !== null) lastId = id;
    const event = data.length > 0 ? { name: name || "message", data: data.join("\n") } : null;
    name = "";
    data = [];
    id = null;
    return event;
  }

  return {
    feed(text) {
      const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      return lines.map(takeLine).filter((event) => event !== null);
    },
    get lastId() {
      return lastId;
    },
  };
}
