import { batch, type ReadonlySignal, type Signal, signal } from "@preact/signals";

/**
 * A number for each agent that moves whenever its config, its history or what waits for it may have changed. What is
 * fetched only while somebody looks hangs on it.
 */
export class Epochs {
  private readonly cells = new Map<string, Signal<number>>();

  of(agent: string): ReadonlySignal<number> {
    return this.cell(agent);
  }

  move(agent: string): void {
    this.cell(agent).value += 1;
  }

  moveAll(): void {
    batch(() => {
      for (const agent of this.cells.keys()) this.move(agent);
    });
  }

  private cell(agent: string): Signal<number> {
    const cell = this.cells.get(agent) ?? signal(0);
    this.cells.set(agent, cell);
    return cell;
  }
}
