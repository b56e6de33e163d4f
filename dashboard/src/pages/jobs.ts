// Every run, and some of them side by side.

import type { Job, Round } from "../api.ts";
import { Chart, SERIES_MAX, type Series } from "../chart.ts";
import { fill, h, mark, say } from "../dom.ts";
import { brief, count, decimals, moment, percent, short } from "../format.ts";
import type { Context, View } from "../pages.ts";
import { choice, curve, field, progress, stateChip } from "../parts.ts";
import { href } from "../route.ts";
import { Grid } from "../virtual.ts";

type Over = "step" | "tokens" | "time";
const measures: Record<string, [label: string, unit: string, of: (round: Round) => number | null, places: number]> = {
  loss: ["Training loss", "nats per token", (round) => round.loss, 3],
  held_out: ["Held-out loss", "nats per token", (round) => round.held_out_loss, 3],
  bits: ["Bits per byte", "bits per byte", (round) => round.bits_per_byte, 3],
  speed: ["Speed", "tokens/s", (round) => round.tokens_per_second, 0],
};
const overs: Record<Over, string> = { step: "step", tokens: "tokens", time: "seconds" };

export function jobs({ store, query, remember }: Context): View {
  const { model } = store;
  const runs = new Set((query.get("runs") ?? "").split(",").filter((id) => id !== ""));
  let over: Over = (query.get("x") ?? "") in overs ? (query.get("x") as Over) : "step";
  let what = (query.get("y") ?? "") in measures ? query.get("y")! : "loss";
  let isChosen = runs.size > 0;

  const chart = new Chart({ title: "Comparison", x: "step", y: "", formatX: short, formatY: String });
  const hint = h("p", { class: "quiet" });
  const grid = new Grid<Job>({
    label: "Jobs", rowHeight: 44, empty: "No job yet. Submit one with zoo submit.", id: (job) => job.id,
    choose: (job) => pick(job.id),
    columns: [
      {
        key: "compare", label: "Compare", width: "4.5rem", cell: (cell, job) => {
          const box = cell.firstElementChild as HTMLInputElement | null ?? h("input", { type: "checkbox", tabindex: -1 });
          if (box.parentElement === null) {
            box.addEventListener("change", () => pick(box.dataset.job!));
            cell.append(box);
          }
          box.dataset.job = job.id;
          box.checked = runs.has(job.id);
          mark(box, "aria-label", `Compare ${job.name}`);
        },
      },
      { key: "name", label: "Name", width: "minmax(9rem, 2fr)", cell: (cell, job) => fill(cell, h("a", { href: href("", { job: job.id }), tabindex: -1 }, job.name || brief(job.id))) },
      { key: "state", label: "State", width: "7rem", cell: (cell, job) => fill(cell, stateChip(job)) },
      { key: "progress", label: "Done", width: "3.5rem", right: true, wide: true, cell: (cell, job) => say(cell, percent(progress(job))) },
      { key: "tokens", label: "Tokens", width: "4.5rem", right: true, wide: true, cell: (cell, job) => say(cell, short(job.tokens)) },
      { key: "loss", label: "Loss", width: "4rem", right: true, wide: true, cell: (cell, job) => say(cell, decimals(job.loss, 3)) },
      { key: "bits", label: "Bits per byte", width: "6rem", right: true, wide: true, cell: (cell, job) => say(cell, decimals(job.bits_per_byte, 3)) },
      { key: "speed", label: "Tokens/s", width: "5rem", right: true, wide: true, cell: (cell, job) => say(cell, short(job.tokens_per_second)) },
      { key: "accepted", label: "Accepted", width: "9.5rem", wide: true, cell: (cell, job) => say(cell, moment(job.accepted_ms).slice(0, -3)) },
    ],
  });
  const element = h("div", {},
    h("div", { class: "fields" },
      field("Measure", choice(Object.entries(measures).map(([value, [label]]) => [value, label]), what, (value) => { what = value; keep(); })),
      field("Over", choice(Object.entries(overs) as [string, string][], over, (value) => { over = value as Over; keep(); })),
      hint),
    chart.element, grid.element);

  function pick(id: string): void {
    if (!runs.delete(id)) runs.add(id);
    isChosen = true;
    keep();
  }
  function keep(): void {
    remember({ runs: isChosen ? [...runs].join(",") : null, x: over, y: what });
    update();
  }
  function update(): void {
    const list = model.jobList();
    // Nobody has chosen: the two newest that have begun.
    if (!isChosen && runs.size === 0) for (const job of list.filter((job) => job.rounds > 0).slice(0, 2)) runs.add(job.id);
    const [label, unit, of, places] = measures[what]!;
    chart.axes({ x: overs[over], y: unit, formatY: (y) => places === 0 ? short(y) : y.toFixed(places) });
    const shown = list.filter((job) => runs.has(job.id)).slice(0, SERIES_MAX);
    const series: Series[] = shown.map((job) => ({ name: job.name || brief(job.id), points: curve(job, store.rounds(job.id), over, of) }));
    chart.set(series);
    say(hint, shown.length === 0 ? "Choose runs below to compare them."
      : `${label} of ${count(shown.length)} ${shown.length === 1 ? "run" : "runs"}${runs.size > SERIES_MAX ? `; ${SERIES_MAX} are shown at once` : ""}.`);
    grid.set(list);
  }
  return { element, update };
}
