// Where the time of a round went, as spans of a common scale.

import type { Round } from "./api.ts";

export type Phase = "training" | "waiting" | "aggregating";
/** From and to are shares of the round, 0 to 1. */
export interface Span { phase: Phase; from: number; to: number; ms: number }
export interface Lane { node: string; spans: Span[]; tokens: number; loss: number; bytes: number; took_ms: number }

/** When a round ended, or `now` if it has not. */
export function endOf(round: Round, now: number): number {
  return Math.max(round.started_ms, round.finished_ms ?? now);
}

function spans(parts: [Phase, number, number][], start: number, length: number): Span[] {
  const share = (at: number): number => length > 0 ? Math.min(1, Math.max(0, (at - start) / length)) : 0;
  return parts.filter(([, from, to]) => to > from)
    .map(([phase, from, to]) => ({ phase, from: share(from), to: share(to), ms: to - from }));
}

/** A round in two: training until it was sealed, aggregation until it ended. */
export function phases(round: Round, now: number): Span[] {
  const [start, end] = [round.started_ms, endOf(round, now)];
  const sealed = Math.min(end, round.sealed_ms ?? end);
  return spans([["training", start, sealed], ["aggregating", sealed, end]], start, end - start);
}

/** Every contribution of a round: the node trained and uploaded until it came, waited until the round was sealed, then all added. */
export function lanes(round: Round, now: number): Lane[] {
  const [start, end] = [round.started_ms, endOf(round, now)];
  const sealed = Math.min(end, round.sealed_ms ?? end);
  return (round.contributions ?? []).map((given) => {
    // A late one of the round before may have come before this round began, or after it was sealed.
    const came = Math.min(end, Math.max(start, given.at_ms));
    const parts: [Phase, number, number][] = [
      ["training", start, came], ["waiting", came, Math.max(came, sealed)], ["aggregating", Math.max(came, sealed), end],
    ];
    return {
      node: given.node, spans: spans(parts, start, end - start),
      tokens: given.tokens, loss: given.loss, bytes: given.bytes, took_ms: came - start,
    };
  }).sort((a, b) => a.took_ms - b.took_ms);
}
