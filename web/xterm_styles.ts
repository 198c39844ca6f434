import type { Plugin } from "vite";

/** What xterm.js does that `style-src 'self'` forbids, how often, and what does the same through the CSSOM. */
const REPLACED: readonly { from: RegExp; count: number; to: string }[] = [
  // See src/terminal/adopted_style.ts.
  { from: /createElement\("style"\)/g, count: 3, to: 'createElement("adopted-style")' },
  {
    from: /(\w+)\.setAttribute\("style",`\$\{\1\.getAttribute\("style"\)\|\|""\}\$\{(\w+)\};`\)/g,
    count: 1,
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a template
    to: "$1.style.cssText+=`${$2};`",
  },
];

/**
 * xterm.js writes `<style>` elements and `style` attributes, which the pages' policy blocks, and no option of it keeps
 * it from that. The build fails if another version of it does otherwise than what is replaced here.
 */
export function xtermStyles(): Plugin {
  return {
    name: "xterm-styles",
    transform(code, id) {
      if (!/@xterm\/xterm\/lib\/xterm\.mjs(\?v=.*)?$/.test(id)) return null;
      return { code: rewriteStyles(code), map: null };
    },
  };
}

export function rewriteStyles(code: string): string {
  return REPLACED.reduce((text, { from, count, to }) => {
    const found = text.match(from)?.length ?? 0;
    if (found !== count)
      throw new Error(`xterm.js has ${found} of ${from}, not ${count}: see xterm_styles.ts`);
    return text.replace(from, to);
  }, code);
}
