// The run that goes on: how good it is, how fast, and how long it will take.

import { Refusal, type Job } from "../api.ts";
import { Chart } from "../chart.ts";
import { chip, fill, h, mark, say } from "../dom.ts";
import { bytes, clock, count, decimals, duration, percent, plural, short } from "../format.ts";
import { askForKey } from "../key.ts";
import { sentence, utilisation } from "../model.ts";
import type { Context, View } from "../pages.ts";
import { curve, progress, stateChip, Tile } from "../parts.ts";
import { href } from "../route.ts";

/** Events that are shown here; the journal has them all. */
const LATEST = 6;
const steers = { pause: "Pause", resume: "Resume", cancel: "Cancel" } as const;
type Steer = keyof typeof steers;

/** What may be asked of a job that stands somewhere. */
function possible(job: Job): Steer[] {
  if (job.state === "paused") return ["resume", "cancel"];
  return job.state === "running" || job.state === "queued" ? ["pause", "cancel"] : [];
}

export function overview({ store, query }: Context): View {
  const { model } = store;
  const name = h("h2", {}, "No job yet");
  const state = h("span", {});
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress of the job" });
  const line = h("p", { class: "quiet" });
  const buttons = h("div", { class: "buttons" });
  const outcome = h("p", { role: "status", class: "quiet" });
  const tiles = {
    loss: new Tile("Loss"), bpb: new Tile("Bits per byte"), speed: new Tile("Tokens a second"), tokens: new Tile("Tokens"),
    bytes: new Tile("Updates sent"), left: new Tile("Time left"), nodes: new Tile("Nodes live"), busy: new Tile("Utilisation"),
  };
  const formatX = (value: number): string => short(value);
  const charts = {
    loss: new Chart({ title: "Loss", x: "step", y: "nats per token", formatX, formatY: (y) => y.toFixed(2) }),
    bpb: new Chart({ title: "Bits per byte", x: "step", y: "bits per byte", formatX, formatY: (y) => y.toFixed(3) }),
    speed: new Chart({ title: "Speed", x: "step", y: "tokens/s", formatX, formatY: short }),
  };
  const latest = h("ol", { class: "events", reversed: true });
  const element = h("div", {},
    h("section", { class: "card hero", "aria-label": "The job" },
      h("div", { class: "title" }, name, state, buttons), bar, line, outcome),
    h("dl", { class: "tiles" }, ...Object.values(tiles).map((tile) => tile.element)),
    h("div", { class: "charts" }, charts.loss.element, charts.bpb.element, charts.speed.element),
    h("section", { class: "card" },
      h("div", { class: "title" }, h("h3", {}, "Latest"), h("a", { href: href("journal") }, "The whole journal")), latest));

  async function steer(job: Job, how: Steer): Promise<void> {
    if (how === "cancel" && !window.confirm(`Cancel ${job.name}? It ends with the checkpoint that it has.`)) return;
    say(outcome, `${steers[how]}: asked`);
    for (let again = true; again;) {
      again = false;
      try {
        await store.steer(job.id, how);
        say(outcome, `${steers[how]}: done`);
      } catch (cause) {
        const wantsKey = cause instanceof Refusal && (cause.status === 401 || cause.status === 403);
        say(outcome, cause instanceof Refusal ? `${steers[how]}: ${cause.message}` : "The orchestrator does not answer.");
        if (wantsKey) again = await askForKey(cause.message, "manage");
      }
    }
  }

  let offered = "";
  function offer(job: Job | undefined): void {
    const what = job === undefined ? [] : possible(job);
    const key = `${job?.id} ${what.join()}`;
    if (key === offered) return;
    offered = key;
    fill(buttons, ...what.map((how) => h("button", {
      type: "button", class: how === "cancel" ? "danger" : "", click: () => void steer(job!, how),
    }, steers[how])));
  }

  let shownState = "";
  function update(): void {
    const job = model.jobs.get(query.get("job") ?? "") ?? model.mainJob();
    const rounds = job === undefined ? null : store.rounds(job.id);
    say(name, job?.name || job?.id || (store.jobsListed ? "No job yet" : "Loading"));
    offer(job);
    if (job?.state !== shownState) {
      shownState = job?.state ?? "";
      if (job !== undefined) fill(state, stateChip(job));
      else fill(state, store.jobsListed ? chip("idle", "queued") : null);
    }
    mark(bar, "value", String(job === undefined ? 0 : progress(job)));
    const newest = rounds?.at(-1);
    const phase = newest === undefined || newest.finished_ms !== null ? "" : newest.sealed_ms === null ? ", training" : ", aggregating";
    say(line, job === undefined ? "Submit one with zoo submit, or POST /v1/jobs."
      : `Step ${count(job.steps)} of ${count(job.of_steps)} · round ${count(job.rounds)}${job.of_rounds ? ` of ${count(job.of_rounds)}` : ""}${phase}`
        + `${job.profile ? ` · ${job.profile}` : ""}${job.why ? ` · ${job.why}` : ""}`);

    const evaluated = rounds?.findLast((round) => round.bits_per_byte !== null);
    const sent = rounds?.reduce((sum, round) => sum + round.bytes, 0);
    tiles.loss.set(decimals(job?.loss, 4), "training, nats per token");
    tiles.bpb.set(decimals(job?.bits_per_byte, 4), evaluated?.step ? `held out, at step ${count(evaluated.step)}` : "held out");
    tiles.speed.set(short(job?.tokens_per_second), "over the last rounds");
    tiles.tokens.set(short(job?.tokens), job?.tokens_max ? `of at most ${short(job.tokens_max)}` : "");
    tiles.bytes.set(bytes(sent), sent !== undefined && job !== undefined && job.steps > 0 ? `${bytes(sent / job.steps)} a step` : "");
    const left = job?.state === "running" && job.done_ms !== null ? Math.max(0, job.done_ms - Date.now()) : null;
    if (job?.ended_ms) tiles.left.set("ended", `at ${clock(job.ended_ms)}, after ${duration(job.ended_ms - (job.started_ms ?? job.accepted_ms))}`);
    else tiles.left.set(duration(left).replace(/ min \d+ s$/, " min"), left === null ? "" : `until ${clock(job!.done_ms)}`);
    const use = utilisation(model.nodes.values());
    tiles.nodes.set(count(model.live), `of ${count(model.nodes.size)} that ever joined`);
    tiles.busy.set(percent(use.share), `${count(use.busy)} of ${plural(use.live, "node")} busy`);

    charts.loss.set([
      { name: "training", points: curve(job, rounds, "step", (round) => round.loss) },
      { name: "held out", points: curve(job, rounds, "step", (round) => round.held_out_loss) },
    ]);
    charts.bpb.set([{ name: "held out", points: curve(job, rounds, "step", (round) => round.bits_per_byte) }]);
    charts.speed.set([{ name: "all nodes", points: curve(job, rounds, "step", (round) => round.tokens_per_second) }]);

    const events = model.events.slice(-LATEST).reverse();
    if (latest.dataset.shown !== String(model.next)) {
      latest.dataset.shown = String(model.next);
      fill(latest, ...events.map((event) => h("li", {}, h("time", {}, clock(event.at_ms)), h("span", {}, sentence(event, model)))));
    }
  }
  const stop = store.watchNodes();
  return { element, update, close: stop };
}
