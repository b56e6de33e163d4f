// A network that does not exist: nodes, jobs, rounds and events in the shapes of the real interface, all of them drawn from a seed.
// For work on the dashboard and its tests; nothing of it is measured anywhere.

const REGIONS = ["eu-north", "eu-west", "us-east", "us-west", "ap-south", "ap-east", "sa-east", "af-south", "home", "campus", ""];
const ISAS = ["amx", "avx512", "avx2", "avx2", "scalar"];
/** Names as somebody would choose them who wants a page to run them. */
export const HOSTILE = [
  "<img src=x onerror=window.hacked=1>", "<script>window.hacked=1</script>", "\"><svg onload=window.hacked=1>",
  "javascript:window.hacked=1", "{{window.hacked=1}}", "'-window.hacked=1-'", "</title><b>bold", "\u202Egnp.exe",
];
export const HOSTILE_JOB = "<img src=x onerror=window.hacked=1> job";
const KEY = "secret-of-the-simulation";
const [HISTORY_ROUNDS, ROUND_MS, CONTRIBUTORS_MAX] = [120, 9000, 400];
/** Windows of a round that are trained again. */
const CHECKS = 3;

/** The same figures for the same seed: 32 bits at a time. */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Simulation {
  constructor({ nodes = 10_000, seed = 1, paceMs = 700, isPrivate = false } = {}) {
    Object.assign(this, { paceMs, isPrivate, draw: random(seed), lot: random(seed + 1), checking: [], events: [], listeners: new Set(), jobs: [], rounds: new Map(), timer: null });
    const now = Date.now();
    this.nodes = Array.from({ length: nodes }, (_, at) => this.node(at));
    this.nodes.sort((a, b) => (a.id < b.id ? -1 : 1));
    this.byId = new Map(this.nodes.map((node) => [node.id, node]));
    this.live = this.nodes.filter((node) => node.live);
    this.hostile = this.live.filter((node) => HOSTILE.includes(node.name));
    const start = now - HISTORY_ROUNDS * ROUND_MS * 2 - 3_600_000;
    for (const node of this.nodes.slice(0, 300)) this.happen(start, { event: "node_joined", node: node.id, profile: profileOf(node) });
    this.past("small, dense", start + 60_000, HISTORY_ROUNDS, "finished", 4.6);
    this.past(HOSTILE_JOB, start + 60_000 + HISTORY_ROUNDS * ROUND_MS, 40, "cancelled", 4.9);
    this.past("small, sparse", now - HISTORY_ROUNDS * ROUND_MS, HISTORY_ROUNDS, "running", 4.5);
    this.accept("next in the queue", now - 30_000, 5000);
    this.current = this.jobs.find((job) => job.state === "running");
    this.begin(now);
  }

  digest() {
    return this.hex(this.draw);
  }

  hex(draw = this.lot) {
    return Array.from({ length: 8 }, () => Math.floor(draw() * 2 ** 32).toString(16).padStart(8, "0")).join("");
  }

  node(at) {
    const live = this.draw() > 0.06;
    const speed = Math.round(200 + this.draw() ** 3 * 9000);
    const name = at < HOSTILE.length ? HOSTILE[at] : `node-${String(at).padStart(5, "0")}`;
    const region = at === 0 ? "<b onclick=window.hacked=1>region</b>" : REGIONS[Math.floor(this.draw() ** 1.6 * REGIONS.length)];
    const rounds = Math.floor(this.draw() * 90);
    return {
      id: this.digest(), name, region, live: live || at < HOSTILE.length, suspected: live && this.draw() < 0.004,
      activity: !live && at >= HOSTILE.length ? "away" : this.draw() < 0.82 ? "training" : "waiting",
      threads: 1 + Math.floor(this.draw() * 32), memory_mib: 4096 * (1 + Math.floor(this.draw() * 16)),
      isa: ISAS[Math.floor(this.draw() * ISAS.length)], software: "0.1.0", speed_f32_exact: speed, speed_bf16_exact: speed * 2,
      upload_kib_per_s: this.draw() < 0.8 ? Math.round(200 + this.draw() * 20_000) : null, rtt_ms: this.draw() < 0.8 ? Math.round(5 + this.draw() * 180) : null,
      contributions: rounds, rounds, tokens: rounds * speed * 8, missed: Math.floor(this.draw() ** 4 * 9), aggregations: rounds,
      shards: Math.floor(rounds / 4), faults: this.draw() < 0.01 ? 1 : 0, verified: Math.floor(rounds / 20), verifications: Math.floor(rounds / 18), convictions: 0,
      status: live ? { step: Math.floor(this.draw() * 30), loss: 2 + this.draw(), tokens_per_second: speed, sent_bytes: speed * 70_000, received_bytes: speed * 400_000 } : null,
    };
  }

  accept(name, at, steps) {
    const job = {
      id: this.digest(), sequence: this.events.length, name, state: "queued", why: null, profile: "f32-exact", rounds: 0, of_rounds: Math.ceil(steps / 30), steps: 0, of_steps: steps,
      tokens: 0, tokens_max: null, loss: null, bits_per_byte: null, tokens_per_second: null, done_ms: null, accepted_ms: Math.round(at), started_ms: null, ended_ms: null, checkpoint: null,
    };
    this.jobs.push(job);
    this.rounds.set(job.id, []);
    this.happen(at, { event: "job_accepted", job: job.id, name, plan: { steps }, ahead: 0 });
    return job;
  }

  past(name, start, rounds, state, difficulty) {
    const job = this.accept(name, start, state === "running" ? 30 * (rounds + 80) : 30 * rounds);
    job.started_ms = Math.round(start);
    job.difficulty = difficulty;
    job.state = "running";
    for (let round = 0; round < rounds; round += 1) this.pastRound(job, round, Math.round(start + round * ROUND_MS));
    if (state === "running") return;
    job.ended_ms = Math.round(start + rounds * ROUND_MS);
    [job.state, job.done_ms] = [state, null];
    if (state === "cancelled") job.why = "it was cancelled";
    this.happen(job.ended_ms, { event: state === "finished" ? "job_finished" : "job_stopped", job: job.id, checkpoint: job.checkpoint, tokens: job.tokens, why: "Cancelled" });
  }

  pastRound(job, number, at) {
    const nodes = this.some(Math.min(CONTRIBUTORS_MAX, this.live.length));
    const round = this.start(job, number, at, nodes);
    const times = nodes.map((node) => ({ node, at: at + Math.round(ROUND_MS * (0.3 + 0.35 * this.draw())) })).sort((a, b) => a.at - b.at);
    for (const [order, one] of times.entries()) this.contribute(job, round, one.node, one.at, order < 12);
    this.seal(job, round, at + Math.round(ROUND_MS * 0.67));
    for (const [order, event] of this.checks(job, round).flat().entries()) this.tell(at + Math.round(ROUND_MS * 0.7) + order * 40, event);
    this.finish(job, round, at + Math.round(ROUND_MS * (0.86 + 0.1 * this.draw())));
  }

  /** What is found out about some windows of a round: the events of each, in order. Strangers with strange names take part. */
  checks(job, round) {
    const pick = () => (this.lot() < 0.1 ? this.hostile : this.live)[Math.floor(this.lot() * (this.lot() < 0.1 ? this.hostile.length : this.live.length))];
    return Array.from({ length: CHECKS }, () => {
      const nodes = [];
      while (nodes.length < 4) {
        const node = pick();
        if (node !== undefined && !nodes.includes(node)) nodes.push(node);
      }
      return this.check(job.id, round.round, ...nodes.map((node) => node.id));
    });
  }

  check(job, round, maker, first, second, third) {
    const [committed, other, lot] = [this.hex(), this.hex(), this.lot()];
    const of = { job, round, maker };
    const asked = (verifier) => ({ event: "verification_asked", ...of, verifier });
    const released = (verifier) => ({ event: "verifier_released", ...of, verifier });
    const said = (verifier, outcome) => ({ event: "verdict_given", ...of, verifier, outcome });
    const verified = (...verifiers) => ({ event: "window_verified", ...of, verifiers });
    const unverified = (why) => ({ event: "window_unverified", ...of, why });
    const fault = (node, kind) => ({ event: "fault", job, round: round + 1, node, kind });
    const panel = [asked(second), asked(third)];
    if (lot < 0.08) {
      const kind = { WrongWindow: { window: round, committed, right: other, verifiers: [first, second] } };
      return [asked(first), said(first, [other, false]), ...panel, said(second, [other, false]), released(third), fault(maker, kind)];
    }
    if (lot < 0.14) {
      const kind = { WrongVerdict: { window: round, maker, said: other, right: committed } };
      return [asked(first), said(first, [other, false]), ...panel, said(second, [committed, true]), said(third, [committed, true]), verified(second, third), fault(first, kind)];
    }
    if (lot < 0.18) return [asked(first), said(first, null), ...panel, said(second, null), said(third, null), unverified("Withheld")];
    if (lot < 0.22) return [asked(first), released(first), unverified("Expired")];
    if (lot < 0.26) return [asked(first), released(first), asked(second), said(second, [committed, true]), verified(second)];
    if (lot < 0.29) return [fault(maker, { Refused: { reason: HOSTILE[0] } })];
    if (lot < 0.31) return [fault(maker, { Disagreement: { reported: other, agreed: committed } })];
    return [asked(first), said(first, [committed, true]), verified(first)];
  }

  /** An event about who was checked, and what it changes of a node. */
  tell(at, event) {
    const { event: kind, maker, node, verifier, verifiers } = event;
    const change = (id, what) => Object.assign(this.byId.get(id), what(this.byId.get(id)));
    const wrong = event.kind?.WrongWindow;
    if (kind === "verification_asked") change(verifier, () => ({ activity: "verifying" }));
    if (kind === "verdict_given" || kind === "verifier_released") change(verifier, ({ live }) => ({ activity: live ? "waiting" : "away" }));
    if (kind === "window_verified") change(maker, ({ verified }) => ({ verified: verified + 1 }));
    for (const id of verifiers ?? wrong?.verifiers ?? []) change(id, ({ verifications }) => ({ verifications: verifications + 1 }));
    if (kind === "fault") change(node, ({ faults, convictions }) => ({ faults: faults + 1, convictions: convictions + Number(wrong !== undefined || event.kind.WrongVerdict !== undefined) }));
    this.happen(at, event);
  }

  some(count) {
    const offset = Math.floor(this.draw() * this.live.length);
    return Array.from({ length: count }, (_, at) => this.live[(offset + at * 7) % this.live.length]).filter((node, at, all) => all.indexOf(node) === at);
  }

  start(job, number, at, nodes) {
    const round = {
      round: number, starts: 1, started_ms: at, sealed_ms: null, finished_ms: null, step: null, participants: nodes.length, contributed: 0, missed: 0, tokens: 0,
      tokens_per_second: null, bytes: 0, loss: null, held_out_loss: null, bits_per_byte: null, checkpoint: null, contributions: [],
    };
    this.rounds.get(job.id).push(round);
    const share = { first_sequence: 0, sequences_per_step: 1, inner_steps: 30 };
    this.happen(at, { event: "round_started", job: job.id, round: number, start: 1, base: this.digest(), shares: nodes.map((node) => [node.id, share]) });
    return round;
  }

  contribute(job, round, node, at, isTold = true) {
    const tokens = node.speed_f32_exact * 8;
    const loss = 1.6 + (job.difficulty - 1.6) * Math.exp(-round.round / 34) + 0.04 * this.draw();
    const given = { node: node.id, at_ms: at, tokens, loss, bytes: 90_000 + Math.round(this.draw() * 20_000) };
    round.contributions.push(given);
    round.loss = ((round.loss ?? 0) * round.tokens + loss * tokens) / (round.tokens + tokens);
    round.contributed += 1;
    round.tokens += tokens;
    round.bytes += given.bytes;
    if (isTold) this.happen(at, { event: "contribution_accepted", job: job.id, round: round.round, node: node.id, commitment: node.id, tokens, mean_loss: loss, bytes: given.bytes });
  }

  seal(job, round, at) {
    round.sealed_ms = at;
    this.happen(at, { event: "round_sealed", job: job.id, round: round.round, attempt: 0, contributors: round.contributions.map((given) => given.node), tokens: round.tokens });
  }

  finish(job, round, at) {
    Object.assign(round, { finished_ms: at, step: (round.round + 1) * 30, checkpoint: this.digest(), tokens_per_second: (round.tokens * 1000) / (at - round.started_ms) });
    Object.assign(job, {
      rounds: round.round + 1, steps: round.step, tokens: job.tokens + round.tokens, loss: round.loss, checkpoint: round.checkpoint, tokens_per_second: round.tokens_per_second,
      done_ms: at + (job.of_steps - round.step) / 30 * ROUND_MS,
    });
    const holders = round.contributions.slice(0, 3).map((given) => given.node);
    this.happen(at, { event: "round_finished", job: job.id, round: round.round, checkpoint: round.checkpoint, holders, tokens: job.tokens, step: round.step });
    if (round.round % 4 !== 3) return;
    round.held_out_loss = round.loss + 0.06;
    round.bits_per_byte = job.bits_per_byte = round.held_out_loss / 1.9;
    this.happen(at + 200, { event: "evaluation_finished", job: job.id, round: round.round, nats: round.held_out_loss * 1000, tokens: 1000, bytes: 2740, bits_per_byte: round.bits_per_byte });
  }

  begin(at) {
    this.round = this.start(this.current, this.rounds.get(this.current.id).length, Math.round(at), this.some(Math.min(CONTRIBUTORS_MAX, this.live.length)));
    this.waiting = this.events.at(-1).shares.map(([id]) => this.byId.get(id));
    const before = this.rounds.get(this.current.id).at(-2);
    if (before !== undefined) this.checking.push(...this.checks(this.current, before));
  }

  /** What happens next. */
  step() {
    const [job, now] = [this.current, Date.now()];
    if (job.state !== "running") return;
    if (this.waiting.length > 0) {
      for (const node of this.waiting.splice(0, Math.ceil(CONTRIBUTORS_MAX / 6))) this.contribute(job, this.round, node, now);
    } else if (this.round.sealed_ms === null) this.seal(job, this.round, now);
    else {
      this.finish(job, this.round, now);
      this.begin(now);
    }
    // Of every check the next event, in turn.
    for (const events of this.checking) this.tell(now, events.shift());
    this.checking = this.checking.filter((events) => events.length > 0);
    const node = this.nodes[Math.floor(this.draw() * this.nodes.length)];
    node.live = !node.live;
    node.activity = node.live ? "waiting" : "away";
    this.happen(now, node.live ? { event: "node_rejoined", node: node.id, profile: profileOf(node) } : { event: "node_lost", node: node.id, cause: "LeaseExpired" });
  }

  run() {
    this.timer = setInterval(() => this.step(), this.paceMs);
  }

  stop() {
    clearInterval(this.timer);
    for (const end of this.listeners) end(null);
  }

  happen(at, event) {
    const { event: kind, ...fields } = event;
    const item = { id: this.events.length, kind, text: JSON.stringify({ event: kind, at_ms: Math.round(at), ...fields }), shares: fields.shares };
    this.events.push(item);
    for (const hear of this.listeners) hear(item);
  }

  /** Cuts every stream of events, as a bad line would. */
  cut() {
    for (const end of [...this.listeners]) end(null);
  }

  /** Answers a request; false if it is none of the interface's. */
  answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    const send = (status, body, type = "application/json") => {
      response.writeHead(status, { "content-type": type });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
      return true;
    };
    const problem = (status, detail) => send(status, { type: "x", title: "x", status, detail }, "application/problem+json");
    const hasKey = request.headers.authorization === `Bearer ${KEY}`;
    if (pathname === "/health") return send(200, { status: "ok", version: "0.1.0" });
    if (pathname === "/openapi.json") return send(200, { openapi: "3.1.0", paths: {} });
    if (!pathname.startsWith("/v1/")) return false;
    if (this.isPrivate && !hasKey) return problem(401, "this needs a key");
    if (pathname === "/v1/journal") return send(200, { commands: this.events.length, events: this.events.length, root: "ab".repeat(32) });
    if (pathname === "/v1/jobs") return send(200, { jobs: [...this.jobs].reverse(), next: null });
    if (pathname === "/v1/checkpoints") return send(200, { checkpoints: this.checkpoints() });
    if (pathname === "/v1/events") return this.stream(Number(searchParams.get("from") ?? 0), request, response);
    if (pathname === "/v1/nodes") {
      const [cursor, limit] = [searchParams.get("cursor"), Number(searchParams.get("limit") ?? 1000)];
      const first = cursor === null ? 0 : this.nodes.findIndex((node) => node.id === cursor) + 1;
      const nodes = this.nodes.slice(first, first + limit);
      const more = first + limit < this.nodes.length;
      return send(200, { nodes, next: more ? nodes.at(-1).id : null, live: this.live.length, known: this.nodes.length });
    }
    const [, , , id, what] = pathname.split("/");
    const job = this.jobs.find((job) => job.id === id);
    if (job === undefined) return problem(404, "there is no such job");
    if (what === undefined) return send(200, job);
    if (what === "rounds") {
      const [from, limit] = [Number(searchParams.get("from") ?? 0), Number(searchParams.get("limit") ?? 1000)];
      const rounds = this.rounds.get(id).filter((round) => round.round >= from);
      const listed = rounds.slice(0, limit).map(({ contributions, ...round }) => searchParams.get("contributions") ? { ...round, contributions: contributions.slice(0, 256) } : round);
      return send(200, { rounds: listed, next: rounds[limit]?.round ?? null });
    }
    if (request.method === "POST") {
      if (!hasKey) return problem(401, "this needs a key");
      job.state = { pause: "paused", resume: "running", cancel: "cancelled" }[what];
      this.happen(Date.now(), { event: { pause: "job_paused", resume: "job_resumed", cancel: "job_stopped" }[what], job: id, ahead: 0, why: "Cancelled" });
      return send(200, job);
    }
    return problem(404, "there is nothing at this path");
  }

  checkpoints() {
    return this.jobs.filter((job) => job.rounds > 0).flatMap((job) => this.rounds.get(job.id).filter((round) => round.checkpoint).slice(-3).map((round, at) => ({
      job: job.id, round: round.round, digest: round.checkpoint, redundancy: 3,
      holders: round.contributions.slice(0, at === 0 ? 2 : 3).map((given) => given.node), asked: at === 0 ? [round.contributions[5]?.node].filter(Boolean) : [],
    })));
  }

  stream(from, request, response) {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.write(": here\n\n");
    const send = (item) => {
      if (item === null) return response.end();
      return response.write(`id: ${item.id}\nevent: ${item.kind}\ndata: ${item.text}\n\n`);
    };
    for (const item of this.events.slice(from)) send(item);
    this.listeners.add(send);
    response.on("close", () => this.listeners.delete(send));
    return true;
  }
}

function profileOf(node) {
  const { name, region, threads, memory_mib, isa, software } = node;
  return { name, region, threads, memory_mib, isa, software, speeds: { f32_exact: node.speed_f32_exact, bf16_exact: node.speed_bf16_exact }, upload_kib_per_s: 0 };
}

export { KEY };
