// What is known of the network, and what an event changes in it. Pure: no clock, no request, no page.

import type { Contribution, Job, PNode, Round, ZooEvent } from "./api.ts";
import { brief } from "./format.ts";
import { kindOf, Trust } from "./trust.ts";

/** Rounds of a job that are known; of more, the newest. */
const ROUNDS_MAX = 4096;
/** Contributions of a round that are known one by one. */
const CONTRIBUTIONS_MAX = 256;
/** Events that are known; of more, the newest. */
export const EVENTS_MAX = 50_000;

export interface Heard extends ZooEvent { id: number }

/** Everything the pages show. */
export class Model {
  readonly jobs = new Map<string, Job>();
  readonly nodes = new Map<string, PNode>();
  /** By job, in order; only of jobs that somebody asked for. */
  readonly rounds = new Map<string, Round[]>();
  /** The newest events, in order, without gaps. */
  events: Heard[] = [];
  /** Number of the next event. */
  next = 0;
  /** Jobs of which an event says less than the interface would. */
  readonly stale = new Set<string>();
  /** Rounds that have ended, by job: what was counted from events is checked against what the interface says. */
  readonly ended = new Map<string, number>();
  /** Whether the checkpoints that are kept may have changed. */
  checkpointsChanged = false;
  /** Nodes that are here. */
  live = 0;
  /** What was found out about whom. */
  trust = new Trust();

  setNode(node: PNode): void {
    this.live += Number(node.live) - Number(this.nodes.get(node.id)?.live ?? false);
    this.nodes.set(node.id, node);
  }

  /** What a node is called, or how its key begins. */
  nameOf(node: string): string {
    const name = this.nodes.get(node)?.name;
    return name === undefined || name === "" ? node.slice(0, 12) : name;
  }

  /** What a job is called, or how its id begins. */
  jobName(job: string): string {
    const name = this.jobs.get(job)?.name;
    return name === undefined || name === "" ? job.slice(0, 12) : name;
  }

  /** The newest first. */
  jobList(): Job[] {
    return [...this.jobs.values()].sort((a, b) => b.accepted_ms - a.accepted_ms);
  }

  /** The job that people look at first: the one that runs, else the newest. */
  mainJob(): Job | undefined {
    const jobs = this.jobList();
    return jobs.find((job) => job.state === "running") ?? jobs.find((job) => job.state === "paused") ?? jobs[0];
  }

  /** Takes in an event. One that was known before changes nothing. */
  hear(id: number, event: ZooEvent): boolean {
    if (id < this.next) return false;
    this.next = id + 1;
    const heard = { ...event, id };
    this.events.push(heard);
    this.trust.take(heard);
    // Cut seldom: moving many is dear.
    if (this.events.length > EVENTS_MAX * 1.2) this.events = this.events.slice(-EVENTS_MAX);
    this.#apply(event);
    return true;
  }

  /** Takes in events from right before those that are known. They change only what is told of the past. */
  older(events: Heard[]): void {
    this.events = [...events, ...this.events];
    this.trust = new Trust(this.trust.version + 1);
    for (const event of this.events) this.trust.take(event);
  }

  #apply(event: ZooEvent): void {
    const { job, node } = event as { job?: string; node?: string };
    switch (event.event) {
      case "node_joined":
      case "node_rejoined": return this.#join(event);
      case "node_lost": return this.#node(node, { live: false, suspected: false, activity: "away", status: null });
      case "node_suspected": return this.#node(node, { suspected: true });
      case "node_heard": return this.#node(node, { suspected: false });
      case "link_measured":
        return this.#node(node, { upload_kib_per_s: event.link?.upload_kib_per_s ?? null, rtt_ms: event.link?.rtt_ms ?? null });
      case "fault": {
        this.#count(node, "faults");
        const [kind, { verifiers }] = kindOf(event.kind);
        if (kind === "WrongWindow" || kind === "WrongVerdict") this.#count(node, "convictions");
        if (kind === "WrongWindow") for (const verifier of verifiers ?? []) this.#count(verifier, "verifications");
        return;
      }
      case "verification_asked": return this.#node(event.verifier, { activity: "verifying" });
      case "verdict_given":
      case "verifier_released": {
        // Who is gone meanwhile stays away.
        if (this.nodes.get(event.verifier)?.activity === "verifying") this.#node(event.verifier, { activity: "waiting" });
        return;
      }
      case "window_verified": {
        this.#count(event.maker, "verified");
        for (const verifier of event.verifiers ?? []) this.#count(verifier, "verifications");
        return;
      }
      case "contribution_missed": {
        this.#count(node, "missed");
        return this.#round(job, event.round, (round) => { round.missed += 1; });
      }
      case "contribution_accepted": return this.#contribution(event);
      case "round_started": return this.#start(event);
      case "round_waiting": return this.#job(job, { state: "running" });
      case "round_sealed": {
        for (const contributor of event.contributors ?? []) this.#node(contributor, { activity: "aggregating" });
        return this.#round(job, event.round, (round) => { round.sealed_ms ??= event.at_ms; });
      }
      case "job_settling": return this.#round(job, event.round, (round) => { round.sealed_ms ??= event.at_ms; });
      case "round_finished": return this.#finish(event);
      case "evaluation_finished": {
        const loss = event.tokens > 0 ? event.nats / event.tokens : null;
        this.#job(job, { bits_per_byte: event.bits_per_byte });
        return this.#round(job, event.round, (round) => {
          [round.bits_per_byte, round.held_out_loss] = [event.bits_per_byte, loss];
        });
      }
      case "checkpoint_asked":
      case "checkpoint_kept":
      case "checkpoint_released": { this.checkpointsChanged = true; return; }
      case "job_accepted":
      case "job_finished":
      case "job_failed":
      case "job_stopped":
      case "job_paused":
      case "job_resumed": { if (job !== undefined) this.stale.add(job); return; }
    }
  }

  #node(id: string | undefined, change: Partial<PNode>): void {
    const node = id === undefined ? undefined : this.nodes.get(id);
    if (node !== undefined) this.setNode({ ...node, ...change });
  }

  #count(id: string | undefined, what: "faults" | "missed" | "contributions" | "verified" | "verifications" | "convictions"): void {
    const node = id === undefined ? undefined : this.nodes.get(id);
    if (node !== undefined) this.setNode({ ...node, [what]: node[what] + 1 });
  }

  #join(event: ZooEvent): void {
    const profile = event.profile ?? {};
    const before = this.nodes.get(event.node);
    const accounts = {
      contributions: 0, rounds: 0, tokens: 0, missed: 0, aggregations: 0, shards: 0, faults: 0, verified: 0, verifications: 0, convictions: 0,
    };
    this.setNode({
      ...accounts, upload_kib_per_s: null, rtt_ms: null, ...before, status: null,
      id: event.node, name: profile.name ?? "", region: profile.region ?? "", live: true, suspected: false, activity: "waiting",
      threads: profile.threads ?? 0, memory_mib: profile.memory_mib ?? 0, isa: profile.isa ?? "", software: profile.software ?? "",
      speed_f32_exact: profile.speeds?.f32_exact ?? 0, speed_bf16_exact: profile.speeds?.bf16_exact ?? 0,
    });
  }

  #job(id: string | undefined, change: Partial<Job>): void {
    const job = id === undefined ? undefined : this.jobs.get(id);
    if (job !== undefined) this.jobs.set(job.id, { ...job, ...change });
  }

  #round(job: string | undefined, number: number, change: (round: Round) => void): void {
    const rounds = job === undefined ? undefined : this.rounds.get(job);
    const round = rounds?.findLast((known) => known.round === number);
    if (round !== undefined) change(round);
  }

  #start(event: ZooEvent): void {
    this.#job(event.job, { state: "running" });
    const shares: [string, unknown][] = event.shares ?? [];
    for (const [node] of shares) this.#node(node, { activity: "training" });
    const rounds = this.rounds.get(event.job);
    if (rounds === undefined) return;
    const kept = rounds.filter((round) => round.round !== event.round).slice(-(ROUNDS_MAX - 1));
    kept.push({
      round: event.round, starts: event.start ?? 1, started_ms: event.at_ms, sealed_ms: null, finished_ms: null, step: null,
      participants: shares.length, contributed: 0, missed: 0, tokens: 0, tokens_per_second: null, bytes: 0,
      loss: null, held_out_loss: null, bits_per_byte: null, checkpoint: null, contributions: [],
    });
    this.rounds.set(event.job, kept);
  }

  #contribution(event: ZooEvent): void {
    this.#count(event.node, "contributions");
    // Who has contributed waits for the others.
    this.#node(event.node, { activity: "waiting" });
    const loss = event.mean_loss as number;
    const given: Contribution = { node: event.node, at_ms: event.at_ms, tokens: event.tokens, loss, bytes: event.bytes };
    this.#round(event.job, event.round, (round) => {
      // The interface was asked in between and told of it already.
      if (round.contributions?.some((known) => known.node === given.node && known.at_ms === given.at_ms)) return;
      const tokens = round.tokens + given.tokens;
      if (tokens > 0) round.loss = ((round.loss ?? 0) * round.tokens + loss * given.tokens) / tokens;
      [round.tokens, round.bytes, round.contributed] = [tokens, round.bytes + given.bytes, round.contributed + 1];
      if (round.contributions !== undefined && round.contributions.length < CONTRIBUTIONS_MAX) round.contributions.push(given);
    });
  }

  #finish(event: ZooEvent): void {
    this.#round(event.job, event.round, (round) => {
      [round.finished_ms, round.step, round.checkpoint] = [event.at_ms, event.step, event.checkpoint];
      const elapsed = event.at_ms - round.started_ms;
      round.tokens_per_second = elapsed > 0 ? (round.tokens * 1000) / elapsed : null;
    });
    this.#job(event.job, { rounds: event.round + 1, steps: event.step, tokens: event.tokens, checkpoint: event.checkpoint });
    this.checkpointsChanged = true;
    this.stale.add(event.job);
    if (this.rounds.has(event.job)) this.ended.set(event.job, Math.min(event.round, this.ended.get(event.job) ?? event.round));
    for (const node of event.holders ?? []) this.#node(node, { activity: "waiting" });
  }
}

/** How many nodes are here and how many of them are busy. */
export function utilisation(nodes: Iterable<PNode>): { live: number; busy: number; share: number | null } {
  let [live, busy] = [0, 0];
  for (const node of nodes) {
    if (!node.live) continue;
    live += 1;
    if (node.activity !== "waiting" && node.activity !== "away") busy += 1;
  }
  return { live, busy, share: live > 0 ? busy / live : null };
}

/** An event in a sentence. Names are text of strangers: shown as text, and nothing else. */
export function sentence(event: ZooEvent, model: Model): string {
  const node = typeof event.node === "string" ? model.nameOf(event.node) : "nobody";
  const job = typeof event.job === "string" ? model.jobName(event.job) : "";
  const round = `round ${event.round}`;
  const of = (id: unknown): string => typeof id === "string" ? model.nameOf(id) : "nobody";
  const window = `the window of ${of(event.maker)} in ${job}, ${round},`;
  const why = (value: unknown): string => typeof value === "string" ? spaced(value) : value === undefined ? "" : JSON.stringify(value);
  switch (event.event) {
    case "node_joined": return `${event.profile?.name || node} joined`;
    case "node_rejoined": return `${event.profile?.name || node} came back`;
    case "node_lost": return `${node} is gone: ${why(event.cause)}`;
    case "node_suspected": return `${node} is silent; its peers still reach it`;
    case "node_heard": return `${node} was heard again`;
    case "link_measured": return `${node} has a measured link`;
    case "job_accepted": return `${event.name || job} was accepted`;
    case "job_finished": return `${job} is finished`;
    case "job_failed": return `${job} failed: ${why(event.why)}`;
    case "job_stopped": return `${job} ended early: ${why(event.why)}`;
    case "job_paused": return `${job} was paused`;
    case "job_resumed": return `${job} goes on`;
    case "round_waiting": return `${job}, ${round} waits for nodes: ${event.nodes} of ${event.minimum}`;
    case "round_started": return `${job}, ${round} started with ${event.shares?.length ?? 0} nodes`;
    case "round_sealed": return `${job}, ${round} sealed with ${event.contributors?.length ?? 0} contributions`;
    case "job_settling": return `${job}, ${round} is the last: what is left is verified before it counts`;
    case "round_restarted": return `${job}, ${round} starts again: ${why(event.why)}`;
    case "round_finished": return `${job}, ${round} is finished, at step ${event.step}`;
    case "evaluation_finished": return `${job}, ${round} was measured at ${Number(event.bits_per_byte).toFixed(4)} bits per byte`;
    case "contribution_accepted": return `${node} contributed to ${job}, ${round}, at loss ${Number(event.mean_loss).toFixed(4)}`;
    case "contribution_missed": return `${job}, ${round} goes on without ${node}: ${why(event.why)}`;
    case "contribution_late": return `${node} is late for ${job}, ${round}`;
    case "work_failed": return `${node} could not do its work in ${job}, ${round}: ${why(event.reason)}`;
    case "fault": return `${node} did what no honest node does in ${job}, ${round}: ${accusation(event.kind, model)}`;
    case "verification_asked": return `${of(event.verifier)} trains ${window} again`;
    case "verifier_released": return `${of(event.verifier)} is no longer waited for with ${window}`;
    case "verdict_given": return `${of(event.verifier)} trained ${window} again: ${answer(event.outcome)}`;
    case "window_verified": return `${window} is verified by ${(event.verifiers ?? []).map(of).join(", ") || "nobody"}`;
    case "window_unverified": return `${window} stays unverified: ${unsettled(event.why)}`;
    case "contribution_withdrawn": return event.withdrawn_in === null
      ? `what ${node} gave to ${job}, ${round} stays in the model: nobody has any more what it takes to take it back`
      : `what ${node} gave to ${job}, ${round} is taken back out of the model in round ${event.withdrawn_in}`;
    case "part_summed": return `${node} added part ${event.sum} of ${job}, ${round}`;
    case "part_moved": return `part ${event.sum} of ${job}, ${round} is now with ${node}`;
    case "checkpoint_asked": return `${node} is asked to keep the checkpoint of ${job}, ${round}`;
    case "checkpoint_kept": return `${node} keeps the checkpoint of ${job}, ${round}`;
    case "checkpoint_released": return `${node} no longer keeps the checkpoint of ${job}, ${round}: ${why(event.why)}`;
    default: return event.event.replaceAll("_", " ");
  }
}

function answer(outcome: [string, boolean] | null | undefined): string {
  if (!outcome) return "it cannot have what it started from";
  return outcome[1] ? "it came to the same" : `it came to ${brief(outcome[0])} instead`;
}

/** What a node did that no honest node does. */
export function accusation(of: unknown, model: Model): string {
  const [kind, it] = kindOf(of);
  switch (kind) {
    case "Disagreement": return `it reported checkpoint ${brief(it.reported)} where most reported ${brief(it.agreed)}`;
    case "Outline": return "it claimed other token counts or VNodes than most";
    case "Refused": return `it made a contribution that cannot be added: ${it.reason}`;
    case "Oversized": return `it committed to an update of ${it.bytes} bytes for VNode ${it.vnode}, where next to the others ${it.limit} are the most`;
    case "WrongWindow":
      return `it committed to ${brief(it.committed)} for its window of round ${it.window}, which comes to ${brief(it.right)} (trained again by ${it.verifiers?.length ?? 0})`;
    case "WrongVerdict":
      return `it said that the window of ${model.nameOf(it.maker ?? "")} in round ${it.window} comes to ${brief(it.said)}, where it comes to ${brief(it.right)}`;
    default: return of === undefined ? "" : typeof of === "string" ? spaced(of) : JSON.stringify(of);
  }
}

const UNSETTLED: Record<string, string> = {
  Withheld: "what it started from could be had from nobody", Undecided: "those who trained it again came to nothing in common",
  Expired: "not enough nodes had time for it",
};

/** Why it could not be settled what comes of a window: a word of the journal's, or already a sentence. */
export function unsettled(why: unknown): string {
  return typeof why === "string" ? UNSETTLED[why] ?? spaced(why) : "";
}

/** A name of the journal's, as words: what begins each with a capital, and is one word. */
function spaced(text: string): string {
  return /^[A-Z][A-Za-z]*$/.test(text) ? text.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter}`).toLowerCase() : text;
}

/** The network as of some event, as far as the known events say. */
export interface Snapshot { live: number; job: string | null; round: number | null; phase: string }

const PHASES: Record<string, string> = {
  round_waiting: "waiting for nodes", round_started: "training", round_sealed: "aggregating", job_settling: "verifying what is left", round_restarted: "starting again",
  round_finished: "between rounds", job_paused: "paused", job_finished: "done", job_failed: "failed", job_stopped: "ended early",
};
const OF_JOB = /^job_(paused|finished|failed|stopped)$/;

/** Walks the events once, so that any of them can be asked for the network as it was then. */
export class Timeline {
  readonly #live: Int32Array;
  readonly #phase: Int32Array;
  constructor(readonly events: readonly Heard[], liveNow: number) {
    this.#live = new Int32Array(events.length);
    this.#phase = new Int32Array(events.length);
    // Who is here now is known; who was is counted backwards.
    let live = liveNow;
    for (let at = events.length - 1; at >= 0; at -= 1) {
      this.#live[at] = live;
      const kind = events[at]!.event;
      if (kind === "node_joined" || kind === "node_rejoined") live -= 1;
      else if (kind === "node_lost") live += 1;
    }
    let phase = -1;
    for (let at = 0; at < events.length; at += 1) {
      if (events[at]!.event in PHASES) phase = at;
      this.#phase[at] = phase;
    }
  }

  /** The network right after event `at` of those that are known. */
  asOf(at: number): Snapshot {
    const live = Math.max(0, this.#live[at] ?? 0);
    const phase = this.events[this.#phase[at] ?? -1];
    if (phase === undefined) return { live, job: null, round: null, phase: "not in the events that are loaded" };
    const round = OF_JOB.test(phase.event) ? null : (phase.round as number);
    return { live, job: phase.job ?? null, round, phase: PHASES[phase.event]! };
  }
}
