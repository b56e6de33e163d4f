// What the pages are made of, as functions.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Job, PNode, Round, ZooEvent } from "../src/api.ts";
import { nearest, summary, thin, ticks, tickText } from "../src/chart.ts";
import * as format from "../src/format.ts";
import { accusation, EVENTS_MAX, Model, sentence, Timeline, utilisation, type Heard } from "../src/model.ts";
import { href, parse } from "../src/route.ts";
import { backoff, Parser } from "../src/sse.ts";
import { CHECKS_MAX, isDisputed, standingOf } from "../src/trust.ts";
import { rowAfter, scrollFor, visibleRows } from "../src/virtual.ts";
import { lanes, phases } from "../src/waterfall.ts";

const JOB = "a".repeat(64);
const NODE = (at: number): string => String(at).padStart(64, "0");

function job(change: Partial<Job> = {}): Job {
  return {
    id: JOB, name: "one", state: "queued", why: null, profile: "f32-exact", rounds: 0, of_rounds: 4, steps: 0, of_steps: 40, tokens: 0, tokens_max: null, loss: null,
    bits_per_byte: null, tokens_per_second: null, done_ms: null, accepted_ms: 0, started_ms: null, ended_ms: null, checkpoint: null, ...change,
  };
}
const joined = (at: number, name = `node ${at}`): ZooEvent => ({
  event: "node_joined", at_ms: at, node: NODE(at), profile: { name, region: "here", threads: 1, memory_mib: 1, isa: "avx2", software: "0", speeds: { f32_exact: 5, bf16_exact: 6 } },
});
/** A round of two nodes, from its start to its evaluation. */
const ROUND: ZooEvent[] = [
  { event: "round_started", at_ms: 1000, job: JOB, round: 0, start: 1, base: "", shares: [[NODE(1), {}], [NODE(2), {}]] },
  { event: "contribution_accepted", at_ms: 1400, job: JOB, round: 0, node: NODE(1), tokens: 100, mean_loss: 3, bytes: 50 },
  { event: "contribution_accepted", at_ms: 1600, job: JOB, round: 0, node: NODE(2), tokens: 300, mean_loss: 2, bytes: 50 },
  { event: "round_sealed", at_ms: 1700, job: JOB, round: 0, contributors: [NODE(1), NODE(2)], tokens: 400 },
  { event: "round_finished", at_ms: 2000, job: JOB, round: 0, checkpoint: "c", holders: [NODE(1)], tokens: 400, step: 10 },
  { event: "evaluation_finished", at_ms: 2100, job: JOB, round: 0, nats: 50, tokens: 20, bytes: 40, bits_per_byte: 1.8 },
];

function modelOf(events: ZooEvent[]): Model {
  const model = new Model();
  model.jobs.set(JOB, job());
  model.rounds.set(JOB, []);
  for (const [id, event] of events.entries()) model.hear(id, event);
  return model;
}

test("a round is told by its events as the interface would tell it", () => {
  const model = modelOf([joined(1), joined(2), ...ROUND]);
  const round = model.rounds.get(JOB)![0]!;
  assert.deepEqual([round.started_ms, round.sealed_ms, round.finished_ms, round.step], [1000, 1700, 2000, 10]);
  assert.deepEqual([round.loss, round.bytes, round.contributed, round.tokens_per_second], [2.25, 100, 2, 400]);
  assert.deepEqual([round.held_out_loss, round.bits_per_byte], [2.5, 1.8]);
  const known = model.jobs.get(JOB)!;
  assert.deepEqual([known.state, known.rounds, known.steps, known.tokens, known.bits_per_byte], ["running", 1, 10, 400, 1.8]);
  assert.ok(model.stale.has(JOB) && model.checkpointsChanged);
});

test("an event that is heard twice changes nothing", () => {
  const model = modelOf([joined(1), joined(2), ...ROUND]);
  const before = JSON.stringify([...model.nodes, ...model.rounds, model.events.length]);
  for (const [id, event] of [joined(1), joined(2), ...ROUND].entries()) assert.equal(model.hear(id, event), false);
  assert.equal(JSON.stringify([...model.nodes, ...model.rounds, model.events.length]), before);
});

test("nodes come, are busy, go and come back; live ones are counted", () => {
  const model = modelOf([joined(1), joined(2), ROUND[0]!]);
  assert.deepEqual(utilisation(model.nodes.values()), { live: 2, busy: 2, share: 1 });
  model.hear(3, ROUND[1]!);
  assert.deepEqual(utilisation(model.nodes.values()), { live: 2, busy: 1, share: 0.5 });
  model.hear(4, { event: "node_suspected", at_ms: 1, node: NODE(2), reached_by: [] });
  assert.equal(model.nodes.get(NODE(2))!.suspected, true);
  model.hear(5, { event: "node_lost", at_ms: 1, node: NODE(2), cause: "LeaseExpired" });
  assert.deepEqual([model.live, model.nodes.get(NODE(2))!.activity, model.nodes.get(NODE(2))!.suspected], [1, "away", false]);
  model.hear(6, { ...joined(2, "again"), event: "node_rejoined" });
  assert.deepEqual([model.live, model.nameOf(NODE(2)), model.nodes.get(NODE(2))!.missed], [2, "again", 0]);
  assert.deepEqual(utilisation([]), { live: 0, busy: 0, share: null });
});

test("a round that starts again is one round, without what came before", () => {
  const model = modelOf([...ROUND.slice(0, 2), { ...ROUND[0]!, start: 2, at_ms: 3000 }]);
  const rounds = model.rounds.get(JOB)!;
  assert.equal(rounds.length, 1);
  assert.deepEqual([rounds[0]!.starts, rounds[0]!.started_ms, rounds[0]!.contributed, rounds[0]!.loss], [2, 3000, 0, null]);
});

test("events are bounded; the newest stay, in order", () => {
  const model = new Model();
  for (let id = 0; id < EVENTS_MAX * 1.2 + 10; id += 1) model.hear(id, { event: "node_heard", at_ms: id, node: NODE(1) });
  assert.ok(model.events.length <= EVENTS_MAX * 1.2);
  assert.equal(model.events.at(-1)!.id, model.next - 1);
  assert.equal(model.events[0]!.id + model.events.length, model.next);
});

test("every kind of event is said in words, and an unknown one does not break", () => {
  const model = modelOf([joined(1, "<b>lynx</b>")]);
  const said = (event: Partial<ZooEvent>): string => sentence({ at_ms: 0, event: "", job: JOB, round: 3, node: NODE(1), ...event } as ZooEvent, model);
  assert.equal(said({ event: "node_lost", cause: "LeaseExpired" }), "<b>lynx</b> is gone: lease expired");
  assert.equal(said({ event: "contribution_missed", why: { Failed: "no memory" } }), "one, round 3 goes on without <b>lynx</b>: {\"Failed\":\"no memory\"}");
  assert.equal(said({ event: "something_new" }), "something new");
  const kinds = ["node_rejoined", "node_suspected", "node_heard", "link_measured", "job_accepted", "job_finished", "job_failed", "job_stopped", "job_paused", "job_resumed",
    "round_waiting", "round_restarted", "contribution_late", "work_failed", "fault", "part_summed", "part_moved", "checkpoint_asked", "checkpoint_kept", "checkpoint_released",
    "verification_asked", "verifier_released", "verdict_given", "window_verified", "window_unverified"];
  for (const kind of kinds) assert.notEqual(said({ event: kind }), kind.replaceAll("_", " "), kind);
});

test("the network as of any event: who was there is counted backwards, the phase forwards", () => {
  const events = [joined(1), joined(2), ...ROUND, { event: "node_lost", at_ms: 9, node: NODE(1), cause: "Left" }].map((event, id) => ({ ...event, id }) as Heard);
  const timeline = new Timeline(events, 1);
  assert.deepEqual(timeline.asOf(0), { live: 1, job: null, round: null, phase: "not in the events that are loaded" });
  assert.deepEqual(timeline.asOf(2), { live: 2, job: JOB, round: 0, phase: "training" });
  assert.deepEqual(timeline.asOf(5), { live: 2, job: JOB, round: 0, phase: "aggregating" });
  assert.deepEqual(timeline.asOf(8), { live: 1, job: JOB, round: 0, phase: "between rounds" });
});

test("a round falls into training, waiting and aggregation, without gaps", () => {
  const round = modelOf(ROUND).rounds.get(JOB)![0]!;
  assert.deepEqual(phases(round, 9999).map((span) => [span.phase, span.ms]), [["training", 700], ["aggregating", 300]]);
  const [quick, slow] = lanes(round, 9999);
  assert.deepEqual([quick!.node, quick!.took_ms, slow!.node, slow!.took_ms], [NODE(1), 400, NODE(2), 600]);
  assert.deepEqual(quick!.spans.map((span) => [span.phase, span.from, span.to]), [["training", 0, 0.4], ["waiting", 0.4, 0.7], ["aggregating", 0.7, 1]]);
});

test("a round that goes on ends now; what came late or early stays inside", () => {
  const open: Round = { ...modelOf(ROUND.slice(0, 2)).rounds.get(JOB)![0]!, started_ms: 1000 };
  assert.deepEqual(phases(open, 1800).map((span) => [span.phase, span.from, span.to]), [["training", 0, 1]]);
  assert.deepEqual(phases(open, 500), []);
  for (const at_ms of [0, 1e6]) {
    const early: Round = { ...open, sealed_ms: 1700, finished_ms: 2000, contributions: [{ node: "n", at_ms, tokens: 1, loss: 1, bytes: 1 }] };
    for (const span of lanes(early, 0)[0]!.spans) assert.ok(span.from >= 0 && span.to <= 1 && span.to > span.from);
  }
});

test("only rows in view exist, wherever a list of 10,000 is scrolled to", () => {
  for (let top = 0; top <= 10_000 * 36; top += 997) {
    const { first, end } = visibleRows(top, 700, 36, 10_000);
    assert.ok(first >= 0 && end <= 10_000 && end - first <= 34);
    assert.ok(first * 36 <= top && (end * 36 >= top + 700 || end === 10_000));
  }
  assert.deepEqual(visibleRows(0, 700, 36, 0), { first: 0, end: 0 });
  assert.deepEqual(visibleRows(9e9, 700, 36, 3), { first: 3, end: 3 });
});

test("keys move within the list, and what they move to is in full view", () => {
  assert.deepEqual(["ArrowDown", "ArrowUp", "PageDown", "Home", "End", "x"].map((key) => rowAfter(key, 0, 5, 3)), [1, 0, 3, 0, 4, null]);
  assert.equal(rowAfter("ArrowDown", -1, 0, 3), null);
  assert.equal(scrollFor(0, 500, 300, 30, 40), 0);
  assert.equal(scrollFor(20, 0, 300, 30, 40), 21 * 30 + 40 - 300);
  assert.equal(scrollFor(3, 60, 300, 30, 40), 60);
});

test("a stream is taken apart the same, however it is cut", () => {
  const text = ": here\n\nid: 4\nevent: a\ndata: {\"event\":\"a\",\"at_ms\":1}\n\n:\n\nid: 5\r\nevent: b\r\ndata: {\"event\":\"b\",\r\ndata: \"at_ms\":2}\r\n\r\n";
  const wanted = [{ id: 4, event: { event: "a", at_ms: 1 } }, { id: 5, event: { event: "b", at_ms: 2 } }];
  for (let size = 1; size <= text.length; size += 1) {
    const [parser, found] = [new Parser(), [] as unknown[]];
    for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
    assert.deepEqual(found, wanted);
  }
});

test("a line without end is refused, and reconnecting is patient but bounded", () => {
  const parser = new Parser();
  const piece = "x".repeat(8 << 20);
  assert.throws(() => { for (let at = 0; at < 10; at += 1) parser.push(piece); }, /line without end/);
  assert.deepEqual([0, 1, 2, 5, 99].map(backoff), [500, 1000, 2000, 16_000, 30_000]);
});

test("figures are short, with units, and nothing is not a number", () => {
  assert.deepEqual([0, 999, 12345, -1234567].map(format.count), ["0", "999", "12,345", "-1,234,567"]);
  assert.deepEqual([0, 999, 999.7, 1234, 999_999, 2.5e9].map(format.short), ["0", "999", "1.00k", "1.23k", "1.00M", "2.50G"]);
  assert.deepEqual([0, 1023, 1536, 5 << 20].map(format.bytes), ["0 B", "1023 B", "1.50 KiB", "5.00 MiB"]);
  assert.deepEqual([0, 950, 59_000, 59_960, 3_599_000, 3_600_000, 2 * 86_400_000].map(format.duration),
    ["0 ms", "950 ms", "59.0 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "2 d 0 h"]);
  for (const none of [null, undefined, NaN, Infinity]) {
    for (const of of [format.count, format.short, format.bytes, format.duration, format.percent, format.clock, format.moment]) {
      if (none === Infinity && (of === format.clock || of === format.moment)) continue;
      assert.equal(of(none), "–");
    }
  }
  assert.deepEqual([format.plural(1, "node"), format.plural(2000, "node")], ["1 node", "2,000 nodes"]);
});

test("ticks are round, inside, and told apart", () => {
  for (const [low, high] of [[0, 1], [1.7, 4.9], [0, 10_000], [-3, 7], [0.001, 0.0012], [3, 3]] as const) {
    const found = ticks(low, high, 5);
    assert.ok(found.length >= 1 && found.length <= 7, `${low} to ${high}: ${found}`);
    for (const tick of found) assert.ok(tick >= low - 1e-9 && tick <= high + (high - low) * 0.01 + 1e-9);
    assert.equal(new Set(found.map((tick) => tickText(tick, found))).size, found.length);
  }
  assert.equal(tickText(1500, [1000, 1500]), "1.5k");
  assert.equal(tickText(2000, [1000, 2000]), "2k");
});

test("a line of many points keeps its ends' heights and its extremes", () => {
  const points = Array.from({ length: 5000 }, (_, x) => ({ x, y: x === 2345 ? 99 : Math.sin(x / 50) }));
  const few = thin(points, 600);
  assert.ok(few.length <= 600 && few.some((point) => point.y === 99));
  assert.ok(few.every((point, at) => at === 0 || point.x > few[at - 1]!.x));
  assert.equal(thin(points.slice(0, 3), 600).length, 3);
  assert.deepEqual([nearest(points, 2345.4)!.x, nearest(points, -5)!.x, nearest(points, 1e9)!.x, nearest([], 1)], [2345, 0, 4999, undefined]);
});

test("a chart is told in words", () => {
  const options = { title: "t", x: "step", y: "nats", formatX: String, formatY: (y: number): string => y.toFixed(1) };
  assert.equal(summary([{ name: "loss", points: [{ x: 1, y: 4 }, { x: 2, y: 2 }, { x: 3, y: 3 }] }], options), "loss: from 4.0 to 3.0, lowest 2.0 at 2.");
  assert.equal(summary([{ name: "loss", points: [] }], options), "Nothing was measured yet.");
});

test("an address says what is shown, and survives any text", () => {
  const query = { q: "a&b=c #?/<i>", region: "eu", order: null, empty: "" };
  const route = parse(href("nodes", query));
  assert.equal(route.path, "nodes");
  assert.deepEqual(Object.fromEntries(route.query), { q: query.q, region: "eu" });
  assert.deepEqual(["", "#", "#/", "#/jobs/"].map((hash) => parse(hash).path), ["", "", "", "jobs"]);
});

test("nodes are found by text and region, and sorted the same every time", async () => {
  const { groups, select } = await import("../src/pages/nodes.ts");
  const model = modelOf(Array.from({ length: 50 }, (_, at) => joined(at)));
  const all = [...model.nodes.values()].map((node, at): PNode => ({ ...node, tokens: at % 5, region: at % 2 === 0 ? "eu" : "us" }));
  const wanted = { text: "", region: null, live: "all", sort: "tokens", down: true };
  const found = select(all, wanted);
  assert.deepEqual(found.map((node) => node.id), select([...all].reverse(), wanted).map((node) => node.id));
  assert.ok(found.every((node, at) => at === 0 || node.tokens <= found[at - 1]!.tokens));
  assert.equal(select(all, { ...wanted, region: "eu" }).length, 25);
  assert.deepEqual(select(all, { ...wanted, text: "NODE 17" }).map((node) => node.name), ["node 17"]);
  assert.equal(select(all, { ...wanted, live: "away" }).length, 0);
  assert.deepEqual(groups(all, (node) => node.region).map((group) => [group.name, group.nodes, group.by]), [["eu", 25, { waiting: 25 }], ["us", 25, { waiting: 25 }]]);
});

const [MAKER, OTHER, THIRD] = [NODE(1), NODE(2), NODE(3)];
const window = (event: string, more: Record<string, unknown>, round = 3): ZooEvent => ({ event, at_ms: 5, job: JOB, round, maker: MAKER, ...more });
const asked = (verifier: string): ZooEvent => window("verification_asked", { verifier });
const gave = (verifier: string, outcome: [string, boolean] | null): ZooEvent => window("verdict_given", { verifier, outcome });
const guilty = (node: string, kind: unknown): ZooEvent => ({ event: "fault", at_ms: 9, job: JOB, round: 5, node, kind });
const wrongWindow = { WrongWindow: { window: 3, committed: "aa", right: "bb", verifiers: [OTHER, THIRD] } };

test("a check is followed from the first question to the conviction, and counted with its nodes", () => {
  const model = modelOf([joined(1), joined(2), joined(3), asked(OTHER)]);
  const accounts = (): unknown[] => [MAKER, OTHER, THIRD].map((id) => { const { activity, verified, verifications, convictions, faults } = model.nodes.get(id)!; return [activity, verified, verifications, convictions, faults]; });
  const check = model.trust.checks[0]!;
  assert.deepEqual([standingOf(check), model.trust.underWay, model.nodes.get(OTHER)!.activity], ["under way", 1, "verifying"]);
  assert.equal(utilisation(model.nodes.values()).busy, 1);
  model.hear(4, gave(OTHER, ["bb", false]));
  assert.deepEqual([standingOf(check), model.nodes.get(OTHER)!.activity], ["disputed", "waiting"]);
  for (const [at, event] of [asked(THIRD), gave(THIRD, ["bb", false]), guilty(MAKER, wrongWindow)].entries()) model.hear(5 + at, event);
  assert.deepEqual([standingOf(check), check.committed, check.right, check.first, check.last], ["different", "aa", "bb", 3, 7]);
  assert.deepEqual([...check.verdicts.values()].map(({ verifier, word, digest, event }) => [verifier, word, digest, event]), [[OTHER, "different", "bb", 4], [THIRD, "different", "bb", 6]]);
  assert.deepEqual(accounts(), [["waiting", 0, 0, 1, 1], ["waiting", 0, 1, 0, 0], ["waiting", 0, 1, 0, 0]]);
  assert.deepEqual([model.trust.faults[0]!.check, model.trust.totals], [check, { checks: 1, equal: 0, different: 1, unverified: 0, convictions: 1 }]);
  // A job that is tried again has windows of the same name once more.
  for (const [at, event] of [asked(OTHER), gave(OTHER, ["aa", true]), window("window_verified", { verifiers: [OTHER] })].entries()) model.hear(8 + at, event);
  assert.deepEqual([model.trust.checks.length, standingOf(model.trust.checks[1]!), model.trust.underWay], [2, "equal", 0]);
  assert.deepEqual(accounts(), [["waiting", 1, 0, 1, 1], ["waiting", 0, 2, 0, 0], ["waiting", 0, 1, 0, 0]]);
});

test("who says what is wrong is convicted with the event named; who goes away while it verifies stays away", () => {
  const lie = { WrongVerdict: { window: 3, maker: MAKER, said: "bb", right: "aa" } };
  const model = modelOf([joined(1), joined(2), joined(3), asked(OTHER), gave(OTHER, ["bb", false]), gave(THIRD, ["aa", true]), window("window_verified", { verifiers: [THIRD] }), guilty(OTHER, lie)]);
  const [check] = model.trust.checks;
  assert.deepEqual([standingOf(check!), check!.right, check!.verdicts.get(OTHER)!.convicted, isDisputed(check!)], ["equal", "aa", 7, true]);
  assert.deepEqual([model.nodes.get(OTHER)!.convictions, model.nodes.get(THIRD)!.verifications], [1, 1]);
  for (const [at, event] of [asked(THIRD), { event: "node_lost", at_ms: 1, node: THIRD, cause: "LeaseExpired" }, window("verifier_released", { verifier: THIRD })].entries()) model.hear(8 + at, event);
  assert.equal(model.nodes.get(THIRD)!.activity, "away");
  assert.equal(model.trust.checks[1]!.verdicts.get(THIRD)!.word, "released");
});

test("what a convict left open is closed, and what it said of others does not count", () => {
  const otherWindow = (event: string, more: Record<string, unknown>): ZooEvent => ({ ...window(event, more), maker: THIRD });
  const model = modelOf([asked(OTHER), window("verification_asked", { verifier: OTHER }, 4), otherWindow("verdict_given", { verifier: MAKER, outcome: null }), guilty(MAKER, wrongWindow), window("verifier_released", { verifier: OTHER }, 4)]);
  const [first, second, third] = model.trust.checks;
  assert.deepEqual([first, second, third].map((check) => standingOf(check!)), ["different", "unverified", "under way"]);
  assert.match(second!.why!, /convicted/);
  assert.deepEqual([second!.verdicts.get(OTHER)!.word, third!.verdicts.get(MAKER)!.isVoid, model.trust.checks.length], ["released", true, 3]);
  model.hear(5, { event: "job_stopped", at_ms: 9, job: JOB, why: "Cancelled" });
  assert.deepEqual([standingOf(third!), model.trust.underWay, model.trust.totals.unverified], ["unverified", 0, 2]);
});

test("older events complete what is known of a check, and count once", () => {
  const all = [joined(1), asked(OTHER), gave(OTHER, ["aa", true]), window("window_verified", { verifiers: [OTHER] })].map((event, id) => ({ ...event, id }) as Heard);
  const model = new Model();
  model.next = 3;
  model.hear(3, all[3]!);
  assert.deepEqual([model.trust.checks[0]!.first, model.trust.checks[0]!.verdicts.get(OTHER)!.word], [3, "equal"]);
  model.older(all.slice(0, 3));
  assert.deepEqual([model.trust.checks.length, model.trust.checks[0]!.first, model.trust.checks[0]!.right, model.trust.totals.equal], [1, 1, "aa", 1]);
});

test("checks and faults are bounded; the newest stay, and all are counted", () => {
  const model = new Model();
  const many = Math.ceil(CHECKS_MAX * 1.2) + 10;
  for (let round = 0; round < many; round += 1) {
    model.hear(round * 2, window("verification_asked", { verifier: OTHER }, round));
    model.hear(round * 2 + 1, guilty(THIRD, "Outline"));
  }
  assert.ok(model.trust.checks.length <= CHECKS_MAX * 1.2 && model.trust.faults.length <= CHECKS_MAX * 1.2 && model.trust.underWay === model.trust.checks.length);
  assert.deepEqual([model.trust.checks.at(-1)!.round, model.trust.totals.checks], [many - 1, many]);
});

test("checks are found by state and by whoever took part, and told in words", async () => {
  const { outcome, wantedChecks } = await import("../src/pages/trust.ts");
  const model = modelOf([joined(1), joined(2, "<b>lynx</b>"), asked(OTHER), gave(OTHER, null), window("window_unverified", { why: "Withheld" }), window("verification_asked", { verifier: THIRD }, 4)]);
  const found = (show: string, text = ""): number[] => wantedChecks(model.trust.checks, show, text, model).map((check) => check.round);
  assert.deepEqual(["all", "open", "disputed", "equal", "unverified"].map((show) => found(show)), [[3, 4], [4], [3], [], [3]]);
  assert.deepEqual([found("all", "LYNX"), found("all", THIRD), found("all", "node 1")], [[3], [4], [3, 4]]);
  assert.deepEqual(model.trust.checks.map(outcome), ["what it started from could be had from nobody (1 withheld)", "1 at it"]);
  assert.deepEqual([accusation("Outline", model), accusation(wrongWindow, model), accusation({ New: { x: 1 } }, model), accusation(undefined, model)],
    ["it claimed other token counts or VNodes than most", "it committed to aa for its window of round 3, which comes to bb (trained again by 2)", "{\"New\":{\"x\":1}}", ""]);
});
