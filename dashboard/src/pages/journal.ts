// Everything that happened, and the network as it was at any of those moments.

import { fill, h, mark, say } from "../dom.ts";
import { clock, count, moment, plural, words } from "../format.ts";
import { sentence, Timeline, type Heard, type Model } from "../model.ts";
import type { Context, View } from "../pages.ts";
import { facts, field } from "../parts.ts";
import { Grid } from "../virtual.ts";

/** Events that are loaded beyond the one that an address names. */
const OLDER_MARGIN = 200;

/** The events that are wanted. */
export function filtered(events: readonly Heard[], kind: string, text: string, model: Model): Heard[] {
  const wanted = text.trim().toLowerCase();
  return events.filter((event) => (kind === "" || event.event === kind)
    && (wanted === "" || `${sentence(event, model)} ${event.node ?? ""} ${event.job ?? ""}`.toLowerCase().includes(wanted)));
}

export function journal({ store, query, remember }: Context): View {
  const { model } = store;
  let kind = query.get("kind") ?? "";
  let text = query.get("q") ?? "";
  let chosen = query.get("event");
  /** Number of the event that the slider is at; null: the newest. */
  let moved: number | null = chosen === null ? null : Number(chosen);

  const kinds = h("select", { change: () => { kind = kinds.value; keep(); } });
  const find = h("input", { type: "search", value: text, placeholder: "name, job, words", input: () => { text = find.value; keep(); } });
  const total = h("p", { class: "quiet" });
  const older = h("button", { type: "button", click: () => void store.older() }, "Load older");
  const newest = h("button", { type: "button", click: () => { moved = null; chosen = null; keep(); } }, "Newest");
  const slider = h("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "Moment", input: () => seek(Number(slider.value)) });
  const was = h("dl", { class: "facts" });
  const grid = new Grid<Heard>({
    label: "Events, the newest first", rowHeight: 34, empty: "No event is like that.", id: (event) => String(event.id),
    choose: (event) => { chosen = String(event.id); moved = event.id; keep(); },
    columns: [
      { key: "id", label: "Number", width: "5.5rem", wide: true, cell: (cell, event) => say(cell, count(event.id)) },
      { key: "at", label: "Time", width: "5.5rem", cell: (cell, event) => say(cell, clock(event.at_ms)) },
      { key: "kind", label: "Kind", width: "12rem", wide: true, cell: (cell, event) => say(cell, words(event.event)) },
      { key: "what", label: "What happened", width: "minmax(12rem, 1fr)", cell: (cell, event) => { say(cell, sentence(event, model)); mark(cell, "title", sentence(event, model)); } },
    ],
  });
  const raw = h("pre", { tabindex: 0, role: "region", "aria-label": "The event as it is in the journal" });
  const details = h("details", { class: "card" }, h("summary", {}, "The chosen event in full"), raw);
  const element = h("div", {},
    h("section", { class: "card scrubber", "aria-label": "The network at a moment" },
      h("div", { class: "title" }, h("h3", {}, "The network at a moment"), newest), slider, was),
    h("div", { class: "fields" }, field("Kind", kinds), field("Find", find), older, total),
    grid.element, details);

  function keep(): void {
    remember({ kind, q: text, event: chosen });
    update();
  }
  let timeline = new Timeline([], 0);
  function seek(at: number): void {
    const event = model.events[at];
    moved = event === undefined || at === model.events.length - 1 ? null : event.id;
    chosen = moved === null ? null : String(moved);
    remember({ event: chosen });
    update();
    if (event !== undefined) grid.reveal(shown.indexOf(event));
  }
  let shown: Heard[] = [];
  let [asOf, listed, known] = ["", "", ""];
  function update(): void {
    const { events } = model;
    const state = `${events[0]?.id} ${model.next} ${model.live} ${model.nodes.size}`;
    if (state !== asOf) {
      asOf = state;
      timeline = new Timeline(events, model.live);
      const found = [...new Set(events.map((event) => event.event))].sort();
      if (found.join() !== known) {
        known = found.join();
        if (kind !== "" && !found.includes(kind)) found.push(kind);
        fill(kinds, h("option", { value: "" }, "every kind"), ...found.map((name) => h("option", { value: name, selected: name === kind }, words(name))));
      }
    }
    if (`${state} ${kind} ${text}` !== listed) {
      listed = `${state} ${kind} ${text}`;
      shown = filtered(events, kind, text, model).reverse();
      grid.set(shown);
    }
    grid.chosen(chosen);
    const first = events[0]?.id ?? model.next;
    say(total, `${plural(shown.length, "event")} of ${count(model.next)}${first > 0 ? `; known from number ${count(first)} on` : ""}.`);
    older.hidden = !store.hasOlder;
    // The address names an event from before those that are loaded.
    if (moved !== null && moved < first && store.hasOlder) void store.older(first - moved + OLDER_MARGIN);

    const last = events.length - 1;
    const at = moved === null ? last : Math.min(last, Math.max(0, moved - first));
    mark(slider, "max", String(Math.max(0, last)));
    if (slider.value !== String(at)) slider.value = String(at);
    newest.hidden = moved === null;
    const event = events[at];
    if (event === undefined) return facts(was, []);
    const then = timeline.asOf(at);
    mark(slider, "aria-valuetext", `${moment(event.at_ms)}, ${plural(then.live, "node")} live, ${then.phase}`);
    facts(was, [
      ["When", moment(event.at_ms)], ["Event", count(event.id)], ["Nodes live", count(then.live)], ["Job", then.job === null ? "none" : model.jobName(then.job)],
      ["Round", then.round === null ? "–" : count(then.round)], ["Phase", then.phase], ["What happened", sentence(event, model)],
    ]);
    say(raw, pretty(event));
  }
  return { element, update };
}

/** An event as text; very long ones are cut. */
function pretty(event: Heard): string {
  const text = JSON.stringify(event, null, 2);
  return text.length > 20_000 ? `${text.slice(0, 20_000)}\n… ${count(text.length - 20_000)} characters more` : text;
}
