// What is kept, by how many, and whether that is enough.

import type { Checkpoint } from "../api.ts";
import { chip, fill, h, say } from "../dom.ts";
import { brief, count, plural } from "../format.ts";
import type { Model } from "../model.ts";
import type { Context, View } from "../pages.ts";
import { nodeLink } from "../parts.ts";
import { Grid } from "../virtual.ts";

/** Holders that are named; of more, how many. */
const HOLDERS_MAX = 100;

/** How safe a checkpoint is, in a word. */
export function safety(checkpoint: Checkpoint): "safe" | "below redundancy" | "lost" {
  if (checkpoint.holders.length === 0) return "lost";
  return checkpoint.holders.length >= checkpoint.redundancy ? "safe" : "below redundancy";
}

export function checkpoints({ store, query, remember }: Context): View {
  const { model } = store;
  let chosen = query.get("digest");
  if (store.checkpoints === null) void store.loadCheckpoints();
  const total = h("p", { class: "quiet", role: "status" });
  const name = h("h3", { tabindex: -1 });
  const digest = h("p", { class: "mono" });
  const [holders, asked] = [h("ul", { class: "names" }), h("ul", { class: "names" })];
  const panel = h("section", { class: "card panel", "aria-label": "Checkpoint" },
    h("div", { class: "title" }, name, h("button", { type: "button", click: () => { show(null); (grid.element.firstElementChild as HTMLElement).focus(); } }, "Close")),
    digest, h("h4", {}, "Held by"), holders, h("h4", {}, "Asked to keep it"), asked);
  const grid = new Grid<Checkpoint>({
    label: "Checkpoints that are kept", rowHeight: 40, empty: "No checkpoint is kept yet.", id: (kept) => kept.digest,
    choose: (kept) => { show(kept.digest); name.focus(); },
    columns: [
      { key: "job", label: "Job", width: "minmax(8rem, 2fr)", cell: (cell, kept) => say(cell, model.jobName(kept.job)) },
      { key: "round", label: "Round", width: "5rem", cell: (cell, kept) => say(cell, count(kept.round)) },
      { key: "safety", label: "Safety", width: "10rem", cell: (cell, kept) => { if (cell.textContent !== safety(kept)) fill(cell, chip(safety(kept))); } },
      { key: "holders", label: "Holders", width: "6rem", right: true, cell: (cell, kept) => say(cell, `${count(kept.holders.length)} of ${count(kept.redundancy)}`) },
      { key: "asked", label: "Asked", width: "5rem", right: true, wide: true, cell: (cell, kept) => say(cell, count(kept.asked.length)) },
      { key: "digest", label: "Manifest", width: "9rem", wide: true, cell: (cell, kept) => say(cell, brief(kept.digest)) },
    ],
  });
  const element = h("div", {}, total, h("div", { class: "split" }, grid.element, panel));

  function show(which: string | null): void {
    chosen = which;
    remember({ digest: which });
    update();
  }
  function names(list: HTMLElement, nodes: string[], of: Model): void {
    const state = nodes.map((node) => of.nameOf(node)).join("\n");
    if (list.dataset.shown === state) return;
    list.dataset.shown = state;
    fill(list, ...nodes.slice(0, HOLDERS_MAX).map((node) => h("li", {}, nodeLink(of, node))),
      nodes.length > HOLDERS_MAX && h("li", {}, `and ${count(nodes.length - HOLDERS_MAX)} more`), nodes.length === 0 && h("li", { class: "quiet" }, "nobody"));
  }
  function update(): void {
    const kept = store.checkpoints ?? [];
    const poor = kept.filter((checkpoint) => safety(checkpoint) !== "safe").length;
    say(total, store.checkpoints === null ? "Loading." : kept.length === 0 ? "" : `${plural(kept.length, "checkpoint")} kept; ${poor === 0 ? "each has enough holders" : `${count(poor)} with fewer holders than wanted`}.`);
    grid.set([...kept].reverse());
    grid.chosen(chosen);
    const shown = kept.find((checkpoint) => checkpoint.digest === chosen);
    panel.hidden = shown === undefined;
    if (shown === undefined) return;
    say(name, `${model.jobName(shown.job)}, round ${shown.round}`);
    say(digest, shown.digest);
    names(holders, shown.holders, model);
    names(asked, shown.asked, model);
  }
  return { element, update };
}
