// What the interface says, and how it is asked. The shapes are those of /openapi.json.

export type JobState = "queued" | "running" | "paused" | "finished" | "failed" | "cancelled" | "budget_used";
export type Activity = "away" | "waiting" | "training" | "aggregating" | "evaluating" | "verifying";

export interface Job {
  id: string; name: string; state: JobState; why: string | null; profile: string | null;
  rounds: number; of_rounds: number | null; steps: number; of_steps: number;
  tokens: number; tokens_max: number | null;
  loss: number | null; bits_per_byte: number | null; tokens_per_second: number | null;
  done_ms: number | null; accepted_ms: number; started_ms: number | null; ended_ms: number | null;
  checkpoint: string | null;
}

export interface Contribution { node: string; at_ms: number; tokens: number; loss: number; bytes: number }

export interface Round {
  round: number; starts: number; started_ms: number; sealed_ms: number | null; finished_ms: number | null;
  step: number | null; participants: number; contributed: number; missed: number;
  tokens: number; tokens_per_second: number | null; bytes: number;
  loss: number | null; held_out_loss: number | null; bits_per_byte: number | null;
  checkpoint: string | null; contributions?: Contribution[];
}

export interface NodeStatus {
  step: number; loss: number; tokens_per_second: number; sent_bytes: number; received_bytes: number;
}

export interface PNode {
  id: string; name: string; region: string; live: boolean; suspected: boolean; activity: Activity;
  threads: number; memory_mib: number; isa: string; software: string;
  speed_f32_exact: number; speed_bf16_exact: number;
  upload_kib_per_s: number | null; rtt_ms: number | null;
  contributions: number; rounds: number; tokens: number; missed: number;
  aggregations: number; shards: number; faults: number;
  verified: number; verifications: number; convictions: number; status: NodeStatus | null;
}

export interface Checkpoint {
  job: string; round: number; digest: string; redundancy: number; holders: string[]; asked: string[];
}

export interface Journal { commands: number; events: number; root: string }

/** An event as the journal tells it: its kind, its time, and fields of its own. */
export interface ZooEvent { event: string; at_ms: number; [field: string]: any }

/** Why a request was not done. */
export class Refusal extends Error {
  constructor(readonly status: number, detail: string, readonly hint: string | null) {
    super(detail);
  }
}

const KEY = "zoo-key";

/** The key of whoever sits here. It is gone when the tab is. */
export const key = {
  get(): string | null { return sessionStorage.getItem(KEY); },
  set(value: string): void { sessionStorage.setItem(KEY, value); },
  forget(): void { sessionStorage.removeItem(KEY); },
};

/** Headers of every request. */
export function headers(): Record<string, string> {
  const held = key.get();
  return held === null ? {} : { authorization: `Bearer ${held}` };
}

/** Asks, and turns what is not an answer into a refusal. */
export async function ask<T>(path: string, options: RequestInit = {}): Promise<T> {
  const response = await fetch(path, { ...options, headers: headers() });
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}

/** What a response that is no success says. */
export async function refusalOf(response: Response): Promise<Refusal> {
  const problem = await response.json().catch(() => ({}));
  return new Refusal(response.status, problem.detail ?? `the answer was ${response.status}`, problem.hint ?? null);
}
