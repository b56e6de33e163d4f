// Who was checked, by whom, and what came of it, as the events say. Pure, like the model.

import type { ZooEvent } from "./api.ts";

/** Checks and faults that are known one by one; of more, the newest. */
export const CHECKS_MAX = 4096;

export type Word = "at it" | "released" | "withheld" | "equal" | "different";
type End = "equal" | "different" | "unverified";
export type Standing = "under way" | "disputed" | End;

/** What a verifier said, or that it has not. */
export interface Verdict {
  verifier: string; word: Word; digest: string | null;
  /** Number of the event that says so. */
  event: number;
  /** Its verifier was convicted before the check was settled: it does not count. */
  isVoid: boolean;
  /** Number of the event that convicted its verifier of it. */
  convicted: number | null;
}

/** A window that others train again. */
export interface Check {
  job: string; round: number; maker: string;
  verdicts: Map<string, Verdict>;
  /** The first event of it that is known, and the one that ended it. */
  first: number; last: number | null; began_ms: number; ended_ms: number | null;
  end: End | null;
  /** Why it stays unverified: a word of the journal's, or a sentence. */
  why: string | null;
  committed: string | null; right: string | null;
}

/** What a node did that no honest node does. */
export interface Fault { id: number; at_ms: number; job: string; round: number; node: string; kind: unknown; check: Check | null }

/** The name of a kind, and its fields: a word alone, or an object of one field. */
export function kindOf(kind: unknown): [string, Record<string, any>] {
  if (typeof kind === "string") return [kind, {}];
  const [name, fields] = Object.entries((kind ?? {}) as Record<string, any>)[0] ?? ["", {}];
  return [name, fields ?? {}];
}

const isDoubt = (verdict: Verdict): boolean => verdict.word === "different" || verdict.word === "withheld";

/** Whether anybody did not come to what was committed to. */
export function isDisputed(check: Check): boolean {
  return [...check.verdicts.values()].some(isDoubt);
}

/** How a check stands, in a word. */
export function standingOf(check: Check): Standing {
  return check.end ?? ([...check.verdicts.values()].some((verdict) => isDoubt(verdict) && !verdict.isVoid) ? "disputed" : "under way");
}

/** All checks and faults, in the order in which they began. */
export class Trust {
  checks: Check[] = [];
  faults: Fault[] = [];
  /** Of all events that are known, also of checks that are not listed any longer. */
  readonly totals = { checks: 0, equal: 0, different: 0, unverified: 0, convictions: 0 };
  #latest = new Map<string, Check>();
  #open = new Set<Check>();

  /** `version` changes with every event that changes anything here. */
  constructor(public version = 0) {}

  get underWay(): number { return this.#open.size; }

  /** Checks that are under way. */
  open(): Iterable<Check> { return this.#open; }

  take(event: ZooEvent & { id: number }): void {
    if (this.#took(event)) this.version += 1;
  }

  #took(event: ZooEvent & { id: number }): boolean {
    const { id, job } = event;
    switch (event.event) {
      case "verification_asked": return this.#say(this.#check(event), event.verifier, "at it", null, id);
      case "verifier_released": {
        // Also of checks that have ended with a conviction; never the beginning of one.
        const check = this.#latest.get(nameOf(job, event.round, event.maker));
        return check?.verdicts.get(event.verifier)?.word === "at it" && this.#say(check, event.verifier, "released", null, id);
      }
      case "verdict_given": {
        const [check, outcome] = [this.#check(event), event.outcome as [string, boolean] | null];
        if (outcome?.[1]) check.committed = outcome[0];
        return this.#say(check, event.verifier, !outcome ? "withheld" : outcome[1] ? "equal" : "different", outcome?.[0] ?? null, id);
      }
      case "window_verified": {
        const check = this.#check(event);
        for (const verifier of event.verifiers ?? []) this.#settle(check, verifier, "equal", check.committed, id);
        check.right = check.committed;
        return this.#end(check, "equal", null, event);
      }
      case "window_unverified": return this.#end(this.#check(event), "unverified", event.why ?? null, event);
      case "fault": return this.#fault(event);
      case "job_paused": return this.#of(job, (check) => {
        for (const { verifier, word } of check.verdicts.values()) if (word === "at it") this.#say(check, verifier, "released", null, id);
      });
      case "job_finished":
      case "job_failed":
      case "job_stopped": return this.#of(job, (check) => this.#end(check, "unverified", "the job was over before it was settled", event));
      default: return false;
    }
  }

  #fault(event: ZooEvent & { id: number }): boolean {
    const { id, at_ms, job, round, node, kind } = event;
    const [name, it] = kindOf(kind);
    let check: Check | null = null;
    if (name === "WrongWindow") {
      check = this.#check({ ...event, round: it.window, maker: node });
      for (const verifier of it.verifiers ?? []) this.#settle(check, verifier, "different", it.right, id);
      [check.committed, check.right] = [it.committed, it.right];
      this.#end(check, "different", null, event);
    } else if (name === "WrongVerdict") {
      check = this.#latest.get(nameOf(job, it.window, it.maker)) ?? null;
      const verdict = check?.verdicts.get(node);
      if (check !== null) check.right ??= it.right;
      if (verdict !== undefined) verdict.convicted = id;
    }
    if (name === "WrongWindow" || name === "WrongVerdict") {
      this.totals.convictions += 1;
      // Nobody waits for what else is to be said of a convict, or was said by it.
      this.#of(job, (open) => {
        if (open.maker === node) this.#end(open, "unverified", "its maker was convicted before it was settled", event);
        const verdict = open.verdicts.get(node);
        if (verdict !== undefined) verdict.isVoid = true;
      });
    }
    this.faults.push({ id, at_ms, job, round, node, kind, check });
    if (this.faults.length > CHECKS_MAX * 1.2) this.faults = this.faults.slice(-CHECKS_MAX);
    return true;
  }

  #say(check: Check, verifier: string, word: Word, digest: string | null, event: number): true {
    check.verdicts.set(verifier, { verifier, word, digest, event, isVoid: false, convicted: null });
    return true;
  }

  /** What a verifier must have said before the events that are known. */
  #settle(check: Check, verifier: string, word: Word, digest: string | null, event: number): void {
    const said = check.verdicts.get(verifier)?.word;
    if (said !== "equal" && said !== "different") this.#say(check, verifier, word, digest, event);
  }

  #end(check: Check, end: End, why: string | null, event: ZooEvent & { id: number }): true {
    if (this.#open.delete(check)) this.totals[end] += 1;
    [check.end, check.why, check.last, check.ended_ms] = [end, why, event.id, event.at_ms];
    return true;
  }

  /** Does something to every check of a job that is under way. */
  #of(job: string, what: (check: Check) => unknown): boolean {
    const found = [...this.#open].filter((check) => check.job === job);
    for (const check of found) what(check);
    return found.length > 0;
  }

  /** The check of a window that is under way, or a new one: a job that is tried again has windows of the same name once more. */
  #check({ id, at_ms, job, round, maker }: ZooEvent & { id: number }): Check {
    const name = nameOf(job, round, maker);
    const known = this.#latest.get(name);
    if (known !== undefined && known.end === null) return known;
    const check: Check = {
      job, round, maker, verdicts: new Map(), first: id, last: null, began_ms: at_ms, ended_ms: null, end: null, why: null, committed: null, right: null,
    };
    this.#latest.set(name, check);
    this.#open.add(check);
    this.checks.push(check);
    this.totals.checks += 1;
    // Cut seldom, as with events.
    if (this.checks.length > CHECKS_MAX * 1.2) this.#cut();
    return check;
  }

  #cut(): void {
    for (const old of this.checks.slice(0, -CHECKS_MAX)) {
      this.#open.delete(old);
      const name = nameOf(old.job, old.round, old.maker);
      if (this.#latest.get(name) === old) this.#latest.delete(name);
    }
    this.checks = this.checks.slice(-CHECKS_MAX);
  }
}

function nameOf(job: string, round: number, maker: string): string {
  return `${job}/${round}/${maker}`;
}
