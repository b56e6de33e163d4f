// Lists of any length: only the rows that can be seen exist, and they are used again when others come into view.

import { fresh, h, mark } from "./dom.ts";

/** Rows beyond the edges that exist as well, so that a quick hand sees no gap. */
const OVERSCAN = 6;

/** Who has not scrolled for so long has arrived, ms. */
const STILL_MS = 200;

/** Which rows of a list exist: from `first` until before `end`. */
export function visibleRows(scrollTop: number, height: number, rowHeight: number, length: number): { first: number; end: number } {
  const first = Math.max(0, Math.floor(scrollTop / rowHeight) - OVERSCAN);
  const end = Math.min(length, Math.ceil((scrollTop + Math.max(0, height)) / rowHeight) + OVERSCAN);
  return { first: Math.min(first, end), end };
}

/** Where to scroll so that row `at` is in full view below a head of `head` pixels; where it is, if it already is. */
export function scrollFor(at: number, scrollTop: number, height: number, rowHeight: number, head: number): number {
  const [top, bottom] = [at * rowHeight, (at + 1) * rowHeight + head];
  if (top < scrollTop) return top;
  return bottom > scrollTop + height ? bottom - height : scrollTop;
}

/** The row that a key moves to, or null if it is no such key. */
export function rowAfter(key: string, at: number, length: number, page: number): number | null {
  const moves: Record<string, number> = {
    ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: length - 1,
  };
  const to = moves[key];
  return to === undefined || length === 0 ? null : Math.max(0, Math.min(length - 1, to));
}

export interface Column<T> {
  key: string;
  label: string;
  /** As `grid-template-columns` takes it. */
  width: string;
  /** Figures line up on the right. */
  right?: boolean;
  /** Left out where there is little room; `very`: shown only where there is much. */
  wide?: boolean | "very";
  /** Puts the item into its cell, which may hold another item's content. */
  cell(cell: HTMLElement, item: T): void;
}

export interface GridOptions<T> {
  label: string;
  columns: Column<T>[];
  rowHeight: number;
  empty: string;
  /** What makes an item the same item after the list has changed. */
  id(item: T): string;
  /** Called with the item that was chosen by Enter or a click. */
  choose?(item: T): void;
  /** Called when a head is chosen; without it the list is not sorted by hand. */
  sort?(key: string): void;
}

interface Row { element: HTMLElement; cells: HTMLElement[]; at: number }

/** A grid for sight, keyboard and screen reader: one tab stop, arrows move, Enter chooses. */
export class Grid<T> {
  readonly element: HTMLElement;
  #items: readonly T[] = [];
  #options: GridOptions<T>;
  #head = h("div", { role: "rowgroup", class: "grid-head" });
  #body = h("div", { role: "rowgroup", class: "grid-body" });
  #empty: HTMLElement;
  #rows: Row[] = [];
  #columns: Column<T>[] = [];
  #active = -1;
  #chosen: string | null = null;
  #sorted: { key: string; down: boolean } | null = null;
  #frame = 0;
  #scrolledAt = -Infinity;
  #name = fresh("grid");
  #narrow = matchMedia("(max-width: 700px)");
  #vast = matchMedia("(min-width: 1600px)");

  constructor(options: GridOptions<T>) {
    this.#options = options;
    this.#empty = h("p", { class: "empty" }, options.empty);
    const grid = h("div", {
      class: "grid", role: "grid", tabindex: 0, "aria-label": options.label, "aria-readonly": "true",
      scroll: () => { this.#scrolledAt = performance.now(); this.#soon(); }, keydown: (event) => this.#key(event), click: (event) => this.#click(event),
      focus: () => { if (this.#active < 0 && this.#items.length > 0) this.#move(this.#firstInView()); },
    }, this.#head, this.#body);
    this.element = h("div", { class: "grid-frame" }, grid, this.#empty);
    this.#columnsFor();
    for (const room of [this.#narrow, this.#vast]) room.addEventListener("change", () => this.#columnsFor());
    new ResizeObserver(() => this.#soon()).observe(grid);
  }

  get #grid(): HTMLElement { return this.element.firstElementChild as HTMLElement; }

  /** Shows these items. */
  set(items: readonly T[]): void {
    const active = this.#items[this.#active];
    this.#items = items;
    if (active !== undefined) {
      const id = this.#options.id(active);
      // The row under the keyboard stays the same item.
      if (items[this.#active] === undefined || this.#options.id(items[this.#active]!) !== id) {
        this.#active = items.findIndex((item) => this.#options.id(item) === id);
      }
    }
    this.#empty.hidden = items.length > 0;
    mark(this.#grid, "aria-rowcount", String(items.length + 1));
    // A short list takes no more room than it needs: its rows, its head, its scroll bar.
    this.#grid.style.setProperty("--content", `${Math.max(1, items.length) * this.#options.rowHeight + 58}px`);
    this.#body.style.height = `${items.length * this.#options.rowHeight}px`;
    this.#draw(true);
  }

  /** Whether somebody is scrolling. What costs time can wait until they are there. */
  get isMoving(): boolean {
    return performance.now() - this.#scrolledAt < STILL_MS;
  }

  /** Says by which column the items are sorted. */
  sorted(key: string, down: boolean): void {
    this.#sorted = { key, down };
    for (const [at, column] of this.#columns.entries()) {
      const cell = this.#head.firstElementChild!.children[at]!;
      mark(cell, "aria-sort", column.key !== key ? "none" : down ? "descending" : "ascending");
    }
  }

  /** Marks the item that the page shows more of. */
  chosen(id: string | null): void {
    this.#chosen = id;
    this.#draw(true);
  }

  /** Brings an item into view and under the keyboard. */
  reveal(at: number): void {
    if (at >= 0 && at < this.#items.length) this.#move(at);
  }

  #columnsFor(): void {
    this.#columns = this.#options.columns.filter(({ wide }) => wide === "very" ? this.#vast.matches : !(wide && this.#narrow.matches));
    this.#grid.style.setProperty("--columns", this.#columns.map((column) => column.width).join(" "));
    this.#grid.style.setProperty("--row", `${this.#options.rowHeight}px`);
    mark(this.#grid, "aria-colcount", String(this.#columns.length));
    const { sort } = this.#options;
    const heads = this.#columns.map((column) => h("div", { role: "columnheader", class: column.right ? "right" : "", },
      sort ? h("button", { type: "button", class: "sort", click: () => sort(column.key) }, column.label) : column.label));
    this.#head.replaceChildren(h("div", { role: "row", class: "grid-row", "aria-rowindex": 1 }, ...heads));
    if (this.#sorted) this.sorted(this.#sorted.key, this.#sorted.down);
    this.#rows = [];
    this.#body.replaceChildren();
    this.#draw(true);
  }

  #soon(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw(false);
    });
  }

  #draw(all: boolean): void {
    const { rowHeight } = this.#options;
    const { first, end } = visibleRows(this.#grid.scrollTop, this.#grid.clientHeight, rowHeight, this.#items.length);
    // A row keeps its element as long as it is in view: element n shows the rows that leave the remainder n.
    const size = Math.max(this.#rows.length, end - first);
    while (this.#rows.length < size) this.#rows.push(this.#row());
    const used = new Set<number>();
    for (let at = first; at < end; at += 1) {
      const slot = at % size;
      used.add(slot);
      const row = this.#rows[slot]!;
      if (all || row.at !== at) this.#bind(row, at);
    }
    for (const [slot, row] of this.#rows.entries()) {
      if (used.has(slot)) continue;
      row.at = -1;
      row.element.hidden = true;
    }
    const active = this.#active >= first && this.#active < end ? `${this.#name}-${this.#active}` : null;
    mark(this.#grid, "aria-activedescendant", active);
  }

  #row(): Row {
    const cells = this.#columns.map((column) => h("div", { role: "gridcell", class: column.right ? "right" : "" }));
    const element = h("div", { role: "row", class: "grid-row", hidden: true }, ...cells);
    this.#body.append(element);
    return { element, cells, at: -1 };
  }

  #bind(row: Row, at: number): void {
    const item = this.#items[at]!;
    if (row.at !== at) {
      row.at = at;
      row.element.id = `${this.#name}-${at}`;
      row.element.hidden = false;
      row.element.style.transform = `translateY(${at * this.#options.rowHeight}px)`;
      row.element.setAttribute("aria-rowindex", String(at + 2));
    }
    const isChosen = this.#chosen !== null && this.#options.id(item) === this.#chosen;
    row.element.classList.toggle("active", at === this.#active);
    row.element.classList.toggle("odd", at % 2 === 1);
    mark(row.element, "aria-selected", isChosen ? "true" : "false");
    for (const [index, column] of this.#columns.entries()) column.cell(row.cells[index]!, item);
  }

  #firstInView(): number {
    return Math.min(this.#items.length - 1, Math.ceil(this.#grid.scrollTop / this.#options.rowHeight));
  }

  #move(to: number): void {
    this.#active = to;
    const head = this.#head.offsetHeight;
    const { scrollTop, clientHeight } = this.#grid;
    this.#grid.scrollTop = scrollFor(to, scrollTop, clientHeight, this.#options.rowHeight, head);
    this.#draw(true);
  }

  #key(event: KeyboardEvent): void {
    if (event.target !== this.#grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.#grid.clientHeight / this.#options.rowHeight) - 2);
    const to = rowAfter(event.key, this.#active, this.#items.length, page);
    const item = this.#items[this.#active];
    if (to !== null) this.#move(to);
    else if ((event.key === "Enter" || event.key === " ") && item !== undefined && this.#options.choose) this.#options.choose(item);
    else return;
    event.preventDefault();
  }

  #click(event: MouseEvent): void {
    const element = (event.target as Element).closest<HTMLElement>("[role=row]");
    const row = this.#rows.find((row) => row.element === element);
    const item = row === undefined ? undefined : this.#items[row.at];
    if (row === undefined || item === undefined) return;
    this.#active = row.at;
    this.#draw(true);
    // What is a control of its own in a cell does its own work.
    if ((event.target as Element).closest("a, button, input, label") === null) this.#options.choose?.(item);
  }
}
