/** The browser's storage, which may be full or forbidden: then nothing is remembered and nothing fails. */

type Place = "localStorage" | "sessionStorage";

export function readItem(place: Place, key: string): string {
  try {
    return window[place].getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** An empty value removes the item. */
export function writeItem(place: Place, key: string, value: string): void {
  try {
    if (value) window[place].setItem(key, value);
    else window[place].removeItem(key);
  } catch {
    // Remembering is a convenience: without it the page works the same until it is closed.
  }
}
