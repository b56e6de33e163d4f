// The one place that asks the orchestrator. It loads what is, follows what happens, and tells the pages.

import {
  ask, Refusal, type Checkpoint, type Job, type Journal, type PNode, type Round, type ZooEvent,
} from "./api.ts";
import { Model, EVENTS_MAX, type Heard } from "./model.ts";
import { backoff, read } from "./sse.ts";

/** Pages hear of changes so often, ms: calm to look at, cheap to draw. */
const TELL_MS = 250;
/** One page of nodes is asked for so often, ms, while somebody looks at nodes. */
const POLL_MS = 2000;
/** Nodes in one answer. */
const NODES_PAGE = 1000;
/** Events from before the page was opened. */
const EVENTS_BEFORE = 1000;
/** Events that are loaded when somebody asks for older ones. */
const OLDER_EVENTS = 5000;

export type Link = "connecting" | "live" | "lost" | "refused";

export class Store {
  readonly model = new Model();
  link: Link = "connecting";
  /** Why it is not live, in words. */
  trouble = "";
  /** When it is tried again, on the page's clock, ms. */
  retryAt = 0;
  journal: Journal | null = null;
  checkpoints: Checkpoint[] | null = null;
  /** Whether every node has been listed. */
  nodesListed = false;
  jobsListed = false;

  #listeners = new Set<() => void>();
  #telling = 0;
  #session = new AbortController();
  #cursor: string | null = null;
  #watchers = 0;
  #loadingRounds = new Set<string>();
  #loadingJobs = false;
  #wake = (): void => {};

  /** Calls `listener` after changes, at most four times a second. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(): void {
    if (this.#telling !== 0) return;
    this.#telling = window.setTimeout(() => {
      this.#telling = 0;
      for (const listener of this.#listeners) listener();
    }, TELL_MS);
  }

  /** Starts, or starts again: with another key, or at once instead of later. */
  start(): void {
    this.#session.abort();
    this.#session = new AbortController();
    void this.#run(this.#session.signal);
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        await this.#load(signal);
        await read(this.model.next, (sent) => this.#hear(sent), signal, () => {
          failures = 0;
          this.#set("live", "");
        });
        this.#set("lost", "the orchestrator ended the connection");
      } catch (cause) {
        if (signal.aborted) return;
        if (cause instanceof Refusal && (cause.status === 401 || cause.status === 403)) {
          return this.#set("refused", cause.message);
        }
        this.#set("lost", cause instanceof Refusal ? cause.message : "the orchestrator does not answer");
      }
      failures += 1;
      const wait = backoff(failures);
      this.retryAt = performance.now() + wait;
      await new Promise<void>((resolve) => {
        const timer = window.setTimeout(resolve, wait);
        this.#wake = () => { clearTimeout(timer); resolve(); };
        signal.addEventListener("abort", this.#wake, { once: true });
      });
    }
  }

  /** Does not wait until it is time to connect again. */
  retryNow(): void {
    this.#wake();
  }

  #set(link: Link, trouble: string): void {
    [this.link, this.trouble] = [link, trouble];
    this.tell();
  }

  /** What is. Events from a little before on are heard afterwards; hearing one twice changes nothing that counts. */
  async #load(signal: AbortSignal): Promise<void> {
    const { model } = this;
    this.#set("connecting", "");
    this.journal = await ask<Journal>("/v1/journal", { signal });
    // Another journal than the one that was followed: nothing that is known holds.
    if (this.journal.events < model.next) location.reload();
    const isFirst = model.next === 0;
    if (isFirst) model.next = this.journal.events;
    await this.#loadJobs(signal);
    for (const job of model.rounds.keys()) void this.#fetchRounds(job);
    void this.#loadNodes(signal);
    if (this.checkpoints !== null) void this.loadCheckpoints();
    if (isFirst && this.journal.events > 0) void this.older(EVENTS_BEFORE);
  }

  async #loadJobs(signal: AbortSignal): Promise<void> {
    if (this.#loadingJobs) return;
    this.#loadingJobs = true;
    try {
      for (let cursor: number | null = null; ;) {
        const more: string = cursor === null ? "" : `&cursor=${cursor}`;
        const page: { jobs: Job[]; next: number | null } = await ask(`/v1/jobs?limit=200${more}`, { signal });
        for (const job of page.jobs) this.model.jobs.set(job.id, job);
        cursor = page.next;
        this.tell();
        if (cursor === null) break;
      }
      this.jobsListed = true;
    } finally {
      this.#loadingJobs = false;
    }
  }

  async #nodesPage(cursor: string | null, signal: AbortSignal): Promise<string | null> {
    const more = cursor === null ? "" : `&cursor=${cursor}`;
    const page = await ask<{ nodes: PNode[]; next: string | null }>(`/v1/nodes?limit=${NODES_PAGE}${more}`, { signal });
    for (const node of page.nodes) this.model.setNode(node);
    this.tell();
    return page.next;
  }

  async #loadNodes(signal: AbortSignal): Promise<void> {
    try {
      for (let cursor = await this.#nodesPage(null, signal); cursor !== null;) cursor = await this.#nodesPage(cursor, signal);
      this.nodesListed = true;
      this.tell();
    } catch {
      // The stream of events says when the connection is lost.
    }
  }

  #hear(sent: { id: number; event: ZooEvent }[]): boolean {
    for (const { id, event } of sent) this.model.hear(id, event);
    this.#refresh();
    this.tell();
    return true;
  }

  /** Asks again, soon and once, for what events only announce. */
  #refreshing = 0;
  #refresh(): void {
    if (this.#refreshing !== 0 || (this.model.stale.size === 0 && !this.model.checkpointsChanged)) return;
    this.#refreshing = window.setTimeout(() => {
      this.#refreshing = 0;
      const stale = [...this.model.stale];
      this.model.stale.clear();
      if (this.model.checkpointsChanged && this.checkpoints !== null) void this.loadCheckpoints();
      this.model.checkpointsChanged = false;
      for (const job of stale) void this.refreshJob(job);
      for (const [job, round] of this.model.ended) void this.#fetchRounds(job, round);
      this.model.ended.clear();
    }, 500);
  }

  async refreshJob(id: string): Promise<void> {
    try {
      this.model.jobs.set(id, await ask<Job>(`/v1/jobs/${id}`));
      this.tell();
    } catch {
      // It may be forgotten; what was known of it stays.
    }
  }

  /** The rounds of a job, and from then on those that come. */
  rounds(job: string): Round[] | null {
    const known = this.model.rounds.get(job);
    if (known === undefined) void this.#fetchRounds(job);
    return known ?? null;
  }

  async #fetchRounds(job: string, first = 0): Promise<void> {
    if (this.#loadingRounds.has(job)) return;
    this.#loadingRounds.add(job);
    try {
      const rounds: Round[] = [];
      for (let from: number | null = first; from !== null;) {
        const page: { rounds: Round[]; next: number | null } = await ask(`/v1/jobs/${job}/rounds?limit=4096&from=${from}`);
        rounds.push(...page.rounds);
        from = page.next;
      }
      const before = this.model.rounds.get(job) ?? [];
      // Contributions that were loaded before are still true.
      const loaded = new Map(before.map((round) => [round.round, round.contributions]));
      for (const round of rounds) {
        const contributions = loaded.get(round.round);
        if (contributions?.length === round.contributed) round.contributions = contributions;
      }
      this.model.rounds.set(job, [...before.filter((round) => round.round < first), ...rounds]);
      this.tell();
    } catch {
      // A page that shows them asks again with the next change.
    } finally {
      this.#loadingRounds.delete(job);
    }
  }

  /** The contributions of a round; null until they are here. */
  contributions(job: string, number: number): Round | null {
    const round = this.model.rounds.get(job)?.findLast((known) => known.round === number);
    if (round === undefined) return null;
    if (round.contributions === undefined || round.contributions.length < Math.min(round.contributed, 256)) {
      void this.#fetchContributions(job, number);
    }
    return round;
  }

  async #fetchContributions(job: string, number: number): Promise<void> {
    const name = `${job}/${number}`;
    if (this.#loadingRounds.has(name)) return;
    this.#loadingRounds.add(name);
    try {
      const { rounds } = await ask<{ rounds: Round[] }>(`/v1/jobs/${job}/rounds?from=${number}&limit=1&contributions=true`);
      const [fresh, round] = [rounds[0], this.model.rounds.get(job)?.findLast((known) => known.round === number)];
      if (fresh !== undefined && round !== undefined && fresh.round === number) Object.assign(round, fresh);
      this.tell();
    } catch {
      // As above.
    } finally {
      this.#loadingRounds.delete(name);
    }
  }

  async loadCheckpoints(): Promise<void> {
    try {
      this.checkpoints = (await ask<{ checkpoints: Checkpoint[] }>("/v1/checkpoints")).checkpoints;
      this.tell();
    } catch {
      // As above.
    }
  }

  #loadingOlder = false;
  /** Whether there are events from before those that are known. */
  get hasOlder(): boolean {
    return (this.model.events[0]?.id ?? this.model.next) > 0 && this.model.events.length < EVENTS_MAX;
  }

  /** Loads events from before those that are known. */
  async older(most = OLDER_EVENTS): Promise<void> {
    if (this.#loadingOlder) return;
    this.#loadingOlder = true;
    try {
      const until = this.model.events[0]?.id ?? this.model.next;
      const from = Math.max(0, until - Math.min(most, EVENTS_MAX - this.model.events.length));
      if (from >= until) return;
      const found: Heard[] = [];
      await read(from, (sent) => {
        for (const { id, event } of sent) if (id < until) found.push({ ...event, id });
        return sent.at(-1)!.id < until - 1;
      }, this.#session.signal);
      this.model.older(found);
      this.tell();
    } catch {
      // The button is still there.
    } finally {
      this.#loadingOlder = false;
    }
  }

  /** While somebody looks at nodes, one page of them is asked for every two seconds; all of them in turn. */
  watchNodes(): () => void {
    this.#watchers += 1;
    if (this.#watchers === 1) this.#poll();
    return () => { this.#watchers -= 1; };
  }

  #poll(): void {
    window.setTimeout(async () => {
      if (this.#watchers === 0) return;
      if (!document.hidden && this.link === "live" && this.nodesListed) {
        this.#cursor = await this.#nodesPage(this.#cursor, this.#session.signal).catch(() => null);
      }
      this.#poll();
    }, POLL_MS);
  }

  /** Cancels, pauses or resumes a job. */
  async steer(job: string, how: "cancel" | "pause" | "resume"): Promise<void> {
    this.model.jobs.set(job, await ask<Job>(`/v1/jobs/${job}/${how}`, { method: "POST" }));
    this.tell();
  }
}
