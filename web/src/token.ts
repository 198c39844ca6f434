/** The login token in a pasted link, or the pasted token itself; empty when there is none. */
export function parseToken(pasted: string): string {
  const text = pasted.trim();
  const token = text.includes("token=") ? (/[?&]token=([^&#\s]*)/.exec(text)?.[1] ?? "") : text;
  return /^[A-Za-z0-9._~-]{8,512}$/.test(token) ? token : "";
}
