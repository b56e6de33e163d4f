// Lines over a common axis, as SVG: they take the page's colours and fonts, scale without blur, and read without sight.

import { fill, fresh, h, s, say } from "./dom.ts";
import { short } from "./format.ts";

export interface Point { x: number; y: number }
export interface Series { name: string; points: Point[] }
type Formatter = (value: number) => string;
export interface ChartOptions { title: string; x: string; y: string; formatX: Formatter; formatY: Formatter }

const HEIGHT = 220;
/** Narrower than this it is scaled down. */
const WIDTH_MIN = 240;
const MARGIN = { left: 48, right: 14, top: 22, bottom: 36 };
/** More points than this cannot be told apart at the width of a chart. */
const POINTS_MAX = 600;
/** Series that look different from each other: strokes differ as well as colours. */
export const SERIES_MAX = 6;
/** Rows of the table. */
const TABLE_ROWS_MAX = 50;

/** Round figures that cover a range: at most `most` steps. */
export function ticks(low: number, high: number, most: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * (1 - 1e-9))!;
  const found: number[] = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** A tick's figure, with as many decimals as tell it from the next. */
export function tickText(value: number, all: number[]): string {
  const step = all.length > 1 ? all[1]! - all[0]! : Math.abs(value) || 1;
  if (step >= 100 || Math.abs(value) >= 10_000) return short(value).replace(/\.(\d*?)0+(?=\D|$)/, (_, kept: string) => kept === "" ? "" : `.${kept}`);
  return value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
}

/** Fewer points with the same picture: of every stretch the lowest and the highest. */
export function thin(points: Point[], most: number): Point[] {
  if (points.length <= most) return points;
  const [found, stretch] = [[] as Point[], points.length / (most / 2)];
  for (let at = 0; at < most / 2; at += 1) {
    const part = points.slice(Math.floor(at * stretch), Math.floor((at + 1) * stretch));
    let [low, high] = [part[0]!, part[0]!];
    for (const point of part) {
      if (point.y < low.y) low = point;
      if (point.y > high.y) high = point;
    }
    found.push(...(low === high ? [low] : low.x < high.x ? [low, high] : [high, low]));
  }
  return found;
}

/** The point of a series that is nearest to x; the points are in order. */
export function nearest(points: Point[], x: number): Point | undefined {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle]!.x < x) low = middle + 1;
    else high = middle;
  }
  const [before, after] = [points[low - 1], points[low]];
  if (before === undefined || after === undefined) return before ?? after;
  return x - before.x <= after.x - x ? before : after;
}

/** What a chart says, in a sentence for each line. */
export function summary(series: Series[], options: ChartOptions): string {
  const lines = series.filter((line) => line.points.length > 0).map((line) => {
    const [first, last] = [line.points[0]!, line.points.at(-1)!];
    const lowest = line.points.reduce((low, point) => point.y < low.y ? point : low);
    const f = options.formatY;
    return `${line.name}: from ${f(first.y)} to ${f(last.y)}, lowest ${f(lowest.y)} at ${options.formatX(lowest.x)}.`;
  });
  return lines.length > 0 ? lines.join(" ") : "Nothing was measured yet.";
}

/** A chart with its legend, its summary and its table. */
export class Chart {
  readonly element: HTMLElement;
  #options: ChartOptions;
  #series: Series[] = [];
  #plot = h("div", { class: "plot" });
  #legend = h("ul", { class: "legend" });
  #reading = h("p", { class: "reading", "aria-live": "polite" });
  #summary: HTMLElement;
  #details: HTMLDetailsElement;
  #table = h("div", { class: "table-frame", tabindex: 0, role: "region" });
  #cursor: SVGElement | null = null;
  #at: number | null = null;
  #range = { left: 0, right: 1, low: 0, high: 1 };
  #drawn = "";
  #width = 480;

  constructor(options: ChartOptions) {
    this.#options = options;
    const [title, summaryName] = [fresh("chart"), fresh("summary")];
    this.#summary = h("p", { id: summaryName, class: "hidden" });
    this.#table.setAttribute("aria-label", `${options.title}: table`);
    this.#details = h("details", { toggle: () => this.#drawTable() }, h("summary", {}, "As a table"), this.#table);
    // Drawn at the width it has, so that its text is as large as other text.
    new ResizeObserver(() => {
      const width = Math.max(WIDTH_MIN, Math.round(this.#plot.clientWidth));
      if (width === this.#width || this.#plot.clientWidth === 0) return;
      this.#width = width;
      this.#draw();
    }).observe(this.#plot);
    const frame = h("div", {
      class: "plot-frame", role: "group", tabindex: 0, "aria-labelledby": title, "aria-describedby": summaryName,
      "aria-roledescription": "chart; left and right arrows read its points",
      pointermove: (event: PointerEvent) => this.#point(event), pointerleave: () => this.#read(null),
      keydown: (event: KeyboardEvent) => this.#key(event), blur: () => this.#read(null),
    }, this.#plot);
    this.element = h("figure", { class: "chart card" },
      h("figcaption", {}, h("h3", { id: title }, options.title), this.#legend),
      frame, this.#reading, this.#summary, this.#details);
  }

  /** Says what the axes mean from now on. */
  axes(options: Partial<ChartOptions>): void {
    this.#options = { ...this.#options, ...options };
    this.#drawn = "";
  }

  set(series: Series[]): void {
    const shown = series.slice(0, SERIES_MAX).map((line) => ({ ...line, points: line.points.filter((p) => Number.isFinite(p.y)) }));
    const state = JSON.stringify([shown.map((line) => [line.name, line.points.length, line.points.at(-1), line.points[0]])]);
    if (state === this.#drawn) return;
    [this.#drawn, this.#series] = [state, shown];
    this.#draw();
    say(this.#summary, summary(shown, this.#options));
    this.#drawTable();
  }

  #x(value: number): number {
    const { left, right } = this.#range;
    return MARGIN.left + ((value - left) / (right - left || 1)) * (this.#width - MARGIN.left - MARGIN.right);
  }

  #y(value: number): number {
    const { low, high } = this.#range;
    return HEIGHT - MARGIN.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  #draw(): void {
    const { x, y } = this.#options;
    const all = this.#series.flatMap((line) => line.points);
    fill(this.#legend, ...this.#series.map((line, at) => h("li", {},
      s("svg", { viewBox: "0 0 24 8", class: `key line-${at}`, "aria-hidden": "true" }, s("path", { d: "M0 4H24" })), line.name)));
    if (all.length === 0) {
      this.#cursor = null;
      return fill(this.#plot, h("p", { class: "empty" }, "Nothing was measured yet."));
    }
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const point of all) {
      [left, right, low, high] = [Math.min(left, point.x), Math.max(right, point.x), Math.min(low, point.y), Math.max(high, point.y)];
    }
    const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    this.#range = { left, right: right > left ? right : left + 1, low: low >= 0 ? Math.max(0, low - room) : low - room, high: high + room };
    const [xs, ys] = [ticks(this.#range.left, this.#range.right, this.#width < 400 ? 4 : 7), ticks(this.#range.low, this.#range.high, 5)];
    const rules = ys.map((at) => s("path", { class: "rule", d: `M${MARGIN.left} ${this.#y(at)}H${this.#width - MARGIN.right}` }));
    const labels = [
      ...ys.map((at) => s("text", { x: MARGIN.left - 8, y: this.#y(at) + 4, "text-anchor": "end" }, tickText(at, ys))),
      ...xs.map((at) => s("text", { x: this.#x(at), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, tickText(at, xs))),
      s("text", { x: this.#width - MARGIN.right, y: HEIGHT - 2, "text-anchor": "end", class: "axis" }, x),
      s("text", { x: 0, y: 11, class: "axis" }, y),
    ];
    const lines = this.#series.map((line, at) => {
      const points = thin(line.points, POINTS_MAX);
      const place = (point: Point): string => `${this.#x(point.x).toFixed(1)} ${this.#y(point.y).toFixed(1)}`;
      return points.length === 1
        ? s("circle", { class: `line-${at}`, cx: this.#x(points[0]!.x), cy: this.#y(points[0]!.y), r: 3 })
        : s("path", { class: `line line-${at}`, d: points.map((point, n) => `${n === 0 ? "M" : "L"}${place(point)}`).join("") });
    });
    this.#cursor = s("g", { class: "cursor" });
    fill(this.#plot, s("svg", { viewBox: `0 0 ${this.#width} ${HEIGHT}`, width: this.#width, height: HEIGHT, "aria-hidden": "true" }, ...rules, ...labels, ...lines, this.#cursor));
    this.#read(this.#at);
  }

  #point(event: PointerEvent): void {
    const box = this.#plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width * this.#width;
    const { left, right } = this.#range;
    this.#read(left + ((share - MARGIN.left) / (this.#width - MARGIN.left - MARGIN.right)) * (right - left));
  }

  #key(event: KeyboardEvent): void {
    const points = this.#series.reduce((longest, line) => line.points.length > longest.length ? line.points : longest, [] as Point[]);
    if (points.length === 0 || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    const here = this.#at === null ? points.length - 1 : points.indexOf(nearest(points, this.#at)!);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: points.length - 1 }[event.key]!;
    this.#read(points[Math.max(0, Math.min(points.length - 1, this.#at === null ? here : to))]!.x);
    event.preventDefault();
  }

  /** Shows and says what the lines are at x. */
  #read(x: number | null): void {
    this.#at = x;
    const found = x === null ? [] : this.#series.flatMap((line, at) => {
      const point = nearest(line.points, x);
      return point === undefined ? [] : [{ line, point, at }];
    });
    this.#cursor?.replaceChildren(...found.map(({ point, at }) =>
      s("circle", { class: `line-${at}`, cx: this.#x(point.x), cy: this.#y(point.y), r: 4 })));
    const { formatX, formatY, x: name } = this.#options;
    say(this.#reading, found.map(({ line, point }) => `${line.name} ${formatY(point.y)} at ${name} ${formatX(point.x)}`).join("; "));
  }

  /** The table is made when somebody opens it. */
  #drawTable(): void {
    if (!this.#details.open) return;
    const { x, formatX, formatY } = this.#options;
    const rows = this.#series.flatMap((line) => thin(line.points, TABLE_ROWS_MAX).map((point) => h("tr", {},
      h("td", {}, line.name), h("td", { class: "right" }, formatX(point.x)), h("td", { class: "right" }, formatY(point.y)))));
    const head = h("tr", {}, h("th", { scope: "col" }, "Line"), h("th", { scope: "col", class: "right" }, x),
      h("th", { scope: "col", class: "right" }, this.#options.y));
    fill(this.#table, h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)));
  }
}
