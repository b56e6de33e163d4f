// Where the time of each round went.

import type { Round } from "../api.ts";
import { chip, fill, h, say } from "../dom.ts";
import { bytes, clock, count, decimals, duration, plural, short } from "../format.ts";
import type { Context, View } from "../pages.ts";
import { facts, JobPicker, nodeLink } from "../parts.ts";
import { Grid } from "../virtual.ts";
import { endOf, lanes, phases, type Lane, type Span } from "../waterfall.ts";

/** A bar with its phases; what it shows is said next to it in words. */
function bar(cell: HTMLElement, spans: Span[], scale = 1): void {
  let frame = cell.firstElementChild as HTMLElement | null;
  if (frame === null) cell.append(frame = h("div", { class: "lane", "aria-hidden": "true" }));
  while (frame.childElementCount < spans.length) frame.append(h("i", {}));
  for (const [at, part] of ([...frame.children] as HTMLElement[]).entries()) {
    const span = spans[at];
    part.hidden = span === undefined;
    if (span === undefined) continue;
    part.dataset.kind = span.phase;
    part.style.left = `${span.from * scale * 100}%`;
    part.style.width = `${Math.max(0.2, (span.to - span.from) * scale * 100)}%`;
  }
}

const took = (spans: Span[], phase: string): string => {
  const span = spans.find((span) => span.phase === phase);
  return span === undefined ? "–" : duration(span.ms);
};

/** How a round stands, in a word. */
export function standing(round: Round): string {
  if (round.finished_ms !== null) return "finished";
  return round.sealed_ms === null ? "training" : "aggregating";
}

export function rounds({ store, query, remember }: Context): View {
  const { model } = store;
  let now = Date.now();
  let chosen = query.has("round") ? Number(query.get("round")) : null;
  let longest = 1;
  const picker = new JobPicker("Job", query.get("job"), (job) => {
    chosen = null;
    remember({ job, round: null });
    update();
  });
  const grid = new Grid<Round>({
    label: "Rounds, the newest first", rowHeight: 36, empty: "No round has begun.", id: (round) => String(round.round),
    choose: (round) => { chosen = round.round; remember({ job: picker.chosen, round: String(chosen) }); update(); title.focus({ preventScroll: true }); title.scrollIntoView({ block: "nearest" }); },
    columns: [
      { key: "round", label: "Round", width: "3.5rem", cell: (cell, round) => say(cell, count(round.round)) },
      { key: "state", label: "State", width: "7.5rem", wide: true, cell: (cell, round) => { if (cell.textContent !== standing(round)) fill(cell, chip(standing(round))); } },
      { key: "bar", label: "Training, aggregation", width: "minmax(7rem, 3fr)", cell: (cell, round) => bar(cell, phases(round, now), (endOf(round, now) - round.started_ms) / longest) },
      { key: "training", label: "Training", width: "5rem", right: true, cell: (cell, round) => say(cell, took(phases(round, now), "training")) },
      { key: "aggregating", label: "Aggregation", width: "6rem", right: true, wide: true, cell: (cell, round) => say(cell, took(phases(round, now), "aggregating")) },
      { key: "nodes", label: "Nodes", width: "6rem", right: true, wide: true, cell: (cell, round) => say(cell, `${count(round.contributed)}/${count(round.participants)}`) },
      { key: "loss", label: "Loss", width: "5rem", right: true, wide: true, cell: (cell, round) => say(cell, decimals(round.loss, 3)) },
      { key: "bytes", label: "Updates", width: "6.5rem", right: true, wide: true, cell: (cell, round) => say(cell, bytes(round.bytes)) },
    ],
  });
  const title = h("h3", { tabindex: -1 });
  const list = h("dl", { class: "facts" });
  const note = h("p", { class: "quiet" });
  const waterfall = new Grid<Lane>({
    label: "Contributions, the quickest first", rowHeight: 30, empty: "No contribution yet.", id: (lane) => lane.node,
    columns: [
      {
        key: "node", label: "Node", width: "minmax(5.5rem, 1fr)",
        cell: (cell, lane) => { if (cell.textContent !== model.nameOf(lane.node)) { const link = nodeLink(model, lane.node); link.tabIndex = -1; fill(cell, link); } },
      },
      { key: "bar", label: "Training and upload, waiting, aggregation", width: "minmax(6rem, 4fr)", cell: (cell, lane) => bar(cell, lane.spans) },
      { key: "took", label: "Came after", width: "5.5rem", right: true, cell: (cell, lane) => say(cell, duration(lane.took_ms)) },
      { key: "tokens", label: "Tokens", width: "5.5rem", right: true, wide: true, cell: (cell, lane) => say(cell, short(lane.tokens)) },
      { key: "loss", label: "Loss", width: "5rem", right: true, wide: true, cell: (cell, lane) => say(cell, decimals(lane.loss, 3)) },
      { key: "bytes", label: "Update", width: "6.5rem", right: true, wide: true, cell: (cell, lane) => say(cell, bytes(lane.bytes)) },
    ],
  });
  const legend = h("ul", { class: "legend" }, ...[["training", "training and upload"], ["waiting", "waiting for others"], ["aggregating", "aggregation"]]
    .map(([kind, label]) => h("li", {}, h("i", { class: "key-box", "data-kind": kind!, "aria-hidden": "true" }), label!)));
  const detail = h("section", { class: "card waterfall", "aria-label": "The round" }, h("div", { class: "title" }, title, legend), list, note, waterfall.element);
  const element = h("div", {}, h("div", { class: "fields" }, picker.element), grid.element, detail);

  function update(): void {
    now = Date.now();
    const job = picker.update(model);
    const known = job === undefined ? [] : store.rounds(job.id) ?? [];
    longest = known.reduce((most, round) => Math.max(most, endOf(round, now) - round.started_ms), 1);
    grid.set([...known].reverse());
    // Nobody has chosen: the newest that has ended, of which all is known.
    const number = chosen ?? known.findLast((round) => round.finished_ms !== null)?.round ?? known.at(-1)?.round;
    grid.chosen(number === undefined ? null : String(number));
    const round = job === undefined || number === undefined ? null : store.contributions(job.id, number);
    detail.hidden = round === null;
    if (round === null) return;
    say(title, `Round ${round.round}`);
    const spans = phases(round, now);
    facts(list, [
      ["State", standing(round)], ["Began", clock(round.started_ms)], ["Training", took(spans, "training")], ["Aggregation", took(spans, "aggregating")],
      ["Contributed", `${count(round.contributed)} of ${count(round.participants)}`], ["Missed", count(round.missed)],
      ["Starts", count(round.starts)], ["Tokens", count(round.tokens)], ["Tokens a second", short(round.tokens_per_second)],
      ["Updates", bytes(round.bytes)], ["Loss", decimals(round.loss, 4)], ["Bits per byte", decimals(round.bits_per_byte, 4)],
    ]);
    const shown = lanes(round, now);
    say(note, shown.length < round.contributed ? `${plural(shown.length, "contribution")} of ${count(round.contributed)} are listed.` : "");
    note.hidden = note.textContent === "";
    waterfall.set(shown);
  }
  return { element, update };
}
