/** The fragment of an address that names a terminal: `#terminal-<id>`, `#terminal-<id>-read` for looking on. */
export interface TerminalLink {
  id: string;
  reading: boolean;
}

const LINK = /^terminal-([A-Za-z0-9_-]{1,64}?)(-read)?$/;

export function parseTerminalLink(fragment: string): TerminalLink | null {
  const match = LINK.exec(fragment);
  return match?.[1] ? { id: match[1], reading: match[2] !== undefined } : null;
}

export const renderTerminalLink = ({ id, reading }: TerminalLink) =>
  `#terminal-${id}${reading ? "-read" : ""}`;

/** What is opened from a terminal's output: nothing but addresses of web pages, without a name and password. */
export function isWebLink(address: string): boolean {
  if (!URL.canParse(address)) return false;
  const { protocol, username, password } = new URL(address);
  return /^https?:$/.test(protocol) && username === "" && password === "";
}
