/**
 * A `<style>` of the document that `style-src 'self'` allows: what is set as its text becomes a constructed stylesheet,
 * for as long as the element is in the document. The build has xterm.js make these instead (xterm_styles.ts).
 */
class AdoptedStyle extends HTMLElement {
  private readonly sheet = new CSSStyleSheet();

  override set textContent(text: string | null) {
    this.sheet.replaceSync(text ?? "");
  }

  override get textContent(): string {
    return "";
  }

  connectedCallback(): void {
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.sheet];
  }

  disconnectedCallback(): void {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((sheet) => sheet !== this.sheet);
  }
}

export function defineAdoptedStyle(): void {
  if (!customElements.get("adopted-style")) customElements.define("adopted-style", AdoptedStyle);
}
