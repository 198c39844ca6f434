import { batch, type ReadonlySignal, type Signal, signal } from "@preact/signals";

/**
 * Rows by key, each in a signal of its own: an update re-renders the one row it is about, so that nothing typed,
 * opened or focused in another is touched. `keys` changes only when rows come or go.
 */
export class Table<K extends string | number, T> {
  private readonly cells = new Map<K, Signal<T>>();
  private readonly order = signal<K[]>([]);

  constructor(
    private readonly keyOf: (row: T) => K,
    private readonly compare: (a: T, b: T) => number,
  ) {}

  get keys(): ReadonlySignal<K[]> {
    return this.order;
  }

  /** The row's signal, or undefined when there is no such row. */
  cell(key: K): ReadonlySignal<T> | undefined {
    return this.cells.get(key);
  }

  /** The row as it is now, without subscribing to it. */
  find(key: K): T | undefined {
    return this.cells.get(key)?.peek();
  }

  /** All rows in order; subscribes to each. */
  rows(): T[] {
    return this.order.value.flatMap((key) => this.cells.get(key)?.value ?? []);
  }

  put(...rows: T[]): void {
    batch(() => {
      let added = false;
      for (const row of rows) added = this.putOne(row) || added;
      if (added) this.sort();
    });
  }

  /** Changes a row that is there; others are left alone. */
  patch(key: K, change: Partial<T>): void {
    const row = this.find(key);
    if (row !== undefined) this.put({ ...row, ...change });
  }

  remove(key: K): void {
    if (this.cells.delete(key)) this.order.value = this.order.peek().filter((other) => other !== key);
  }

  /** Makes the table hold exactly `rows`; the signals of rows that stay are kept. */
  reset(rows: T[]): void {
    batch(() => {
      const keep = new Set(rows.map(this.keyOf));
      for (const key of this.order.peek()) if (!keep.has(key)) this.remove(key);
      this.put(...rows);
    });
  }

  private putOne(row: T): boolean {
    const key = this.keyOf(row);
    const cell = this.cells.get(key);
    if (cell === undefined) {
      this.cells.set(key, signal(row));
      return true;
    }
    // A refetch brings equal rows in new objects: those must not re-render anything.
    if (JSON.stringify(cell.peek()) !== JSON.stringify(row)) cell.value = row;
    return false;
  }

  private sort(): void {
    const rows = [...this.cells.values()].map((cell) => cell.peek());
    this.order.value = rows.sort(this.compare).map(this.keyOf);
  }
}
