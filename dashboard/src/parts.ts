// What several pages are made of.

import { chip, fill, h, say } from "./dom.ts";
import { brief, words } from "./format.ts";
import { href } from "./route.ts";
import type { Job, Round } from "./api.ts";
import type { Model } from "./model.ts";
import type { Point } from "./chart.ts";

/** A figure with its name. */
export class Tile {
  readonly element: HTMLElement;
  #value = h("dd", {}, "–");
  #note = h("dd", { class: "note" });
  constructor(label: string) {
    this.element = h("div", { class: "tile" }, h("dt", {}, label), this.#value, this.#note);
  }
  set(value: string, note = ""): void {
    say(this.#value, value);
    say(this.#note, note);
  }
}

/** Where a job stands. */
export function stateChip(job: Job): HTMLElement {
  return chip(words(job.state), job.state);
}

/** How far a job is, 0 to 1. */
export function progress(job: Job): number {
  return job.of_steps > 0 ? Math.min(1, job.steps / job.of_steps) : 0;
}

/** A choice of a job; the first that is offered is the one that runs. */
export class JobPicker {
  readonly element: HTMLElement;
  #select: HTMLSelectElement;
  #shown = "";
  constructor(label: string, public chosen: string | null, changed: (job: string) => void) {
    this.#select = h("select", { change: () => { this.chosen = this.#select.value; changed(this.#select.value); } });
    this.element = h("label", { class: "field" }, label, this.#select);
  }
  /** Offers the jobs there are, and gives the one that is chosen. */
  update(model: Model): Job | undefined {
    const jobs = model.jobList();
    const main = model.mainJob();
    const wanted = (this.chosen === null ? undefined : model.jobs.get(this.chosen)) ?? main;
    const state = JSON.stringify([jobs.map((job) => [job.id, job.name, job.state]), wanted?.id]);
    if (state !== this.#shown) {
      this.#shown = state;
      fill(this.#select, ...jobs.map((job) => h("option", { value: job.id, selected: job.id === wanted?.id },
        `${job.name || brief(job.id)} (${words(job.state)})`)));
      this.#select.disabled = jobs.length === 0;
    }
    return wanted;
  }
}

/** A figure of finished rounds, over what the job had done by then. */
export function curve(job: Job | undefined, rounds: Round[] | null, x: "step" | "tokens" | "time", y: (round: Round) => number | null): Point[] {
  const [points, start] = [[] as Point[], job?.started_ms ?? rounds?.[0]?.started_ms ?? 0];
  let tokens = 0;
  for (const round of rounds ?? []) {
    if (round.finished_ms === null) continue;
    tokens += round.tokens;
    const value = y(round);
    if (value === null || !Number.isFinite(value)) continue;
    points.push({ x: x === "step" ? round.step ?? 0 : x === "tokens" ? tokens : (round.finished_ms - start) / 1000, y: value });
  }
  return points;
}

/** A link to a node's details. */
export function nodeLink(model: Model, node: string): HTMLElement {
  return h("a", { href: href("nodes", { node }) }, model.nameOf(node));
}

/** A field with its label. */
export function field(label: string, control: HTMLElement): HTMLElement {
  return h("label", { class: "field" }, label, control);
}

/** A choice of a few words. */
export function choice(options: [value: string, label: string][], chosen: string, changed: (value: string) => void): HTMLSelectElement {
  const select = h("select", { change: () => changed(select.value) },
    ...options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)));
  return select;
}

/** Sets a list of figures with their names. */
export function facts(list: HTMLElement, pairs: [string, string | Node][]): void {
  const state = JSON.stringify(pairs.map(([name, value]) => [name, value instanceof Node ? value.textContent : value]));
  if (list.dataset.shown === state) return;
  list.dataset.shown = state;
  fill(list, ...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
