import type { ITheme } from "@xterm/xterm";

/** The sixteen colours, readable on the pages' two backgrounds; xterm.js lifts what a program mixes itself. */
const DARK_ANSI: ITheme = {
  black: "#262a30",
  red: "#ff8a80",
  green: "#6ee787",
  yellow: "#ffb454",
  blue: "#82aaff",
  magenta: "#cba6f7",
  cyan: "#7fdbca",
  white: "#d9d5c9",
  brightBlack: "#8b8f98",
  brightRed: "#ffb3ab",
  brightGreen: "#a5f3b4",
  brightYellow: "#ffd08f",
  brightBlue: "#b0c8ff",
  brightMagenta: "#e0cbff",
  brightCyan: "#b2f0e4",
  brightWhite: "#ffffff",
};
const LIGHT_ANSI: ITheme = {
  black: "#22211d",
  red: "#a8221a",
  green: "#15612b",
  yellow: "#824c00",
  blue: "#1f4fb8",
  magenta: "#6b3bbd",
  cyan: "#0b6068",
  white: "#5c5950",
  brightBlack: "#6a665c",
  brightRed: "#c0271d",
  brightGreen: "#1b7a36",
  brightYellow: "#8f5400",
  brightBlue: "#2a5fd0",
  brightMagenta: "#7d4bd4",
  brightCyan: "#0d747d",
  brightWhite: "#45423b",
};

/** The pages' colours as they are now, for what draws by itself. `host` is in the document. */
export function readTheme(host: HTMLElement, light: boolean): ITheme {
  const color = createColorReader(host);
  const accent = color("var(--amber)");
  const theme = {
    ...(light ? LIGHT_ANSI : DARK_ANSI),
    background: color("var(--bg)"),
    foreground: color("var(--text)"),
    cursor: accent,
    cursorAccent: color("var(--bg)"),
    selectionBackground: light ? "#dcc9f5" : "#4a3f63",
    scrollbarSliderBackground: color("var(--line)"),
    scrollbarSliderHoverBackground: color("var(--edge)"),
    scrollbarSliderActiveBackground: color("var(--edge)"),
  };
  color("");
  return theme;
}

/** What a colour of the style sheets comes to: `light-dark()` is only resolved where it is used. Ends with "". */
function createColorReader(host: HTMLElement) {
  const probe = document.createElement("span");
  probe.hidden = true;
  host.append(probe);
  return (value: string): string => {
    if (value === "") probe.remove();
    probe.style.color = value;
    return getComputedStyle(probe).color;
  };
}
