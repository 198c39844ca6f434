/** Further than this is a drag, by which a press is taken back. */
const STILL_PX = 8;
const PRESSED = "button, summary, a[href], label";

interface Press {
  element: HTMLElement;
  pointer: number;
  x: number;
  y: number;
}

/**
 * Has a press count for what it began on. Rows come and go by themselves: when the page moves between the mouse's going
 * down and its coming up, browsers click neither what was pressed nor what is there now, and nothing would happen.
 */
export function keepPresses(root: Document): () => void {
  let press: Press | null = null;

  function begin(event: PointerEvent): void {
    const element = event.target instanceof Element ? event.target.closest<HTMLElement>(PRESSED) : null;
    const counts = element !== null && event.button === 0 && event.pointerType === "mouse";
    press = counts ? { element, pointer: event.pointerId, x: event.clientX, y: event.clientY } : null;
  }

  function end(event: PointerEvent): void {
    const was = press;
    press = null;
    if (was === null || was.pointer !== event.pointerId || !was.element.isConnected) return;
    if (event.target instanceof Node && was.element.contains(event.target)) return;
    if (Math.hypot(event.clientX - was.x, event.clientY - was.y) <= STILL_PX) was.element.click();
  }

  root.addEventListener("pointerdown", begin);
  root.addEventListener("pointerup", end);
  return () => {
    root.removeEventListener("pointerdown", begin);
    root.removeEventListener("pointerup", end);
  };
}
