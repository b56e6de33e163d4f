// Server-sent events over `fetch`.
//
// Not `EventSource`: that hears only kinds of events that it was told of before, cannot send a key (an orchestrator may want one also
// of those who only look), and does not say why it was refused.

import { headers, refusalOf, type ZooEvent } from "./api.ts";

export interface Sent { id: number; event: ZooEvent }

/** A line longer than this is no event of ours; one that starts a round names each of its nodes. */
const LINE_CHARACTERS_MAX = 64 << 20;

/** Takes a stream of text apart. Give it pieces as they come; it gives back the events that are complete. */
export class Parser {
  #rest: string[] = [];
  #length = 0;
  #id: number | null = null;
  #data: string[] = [];

  push(piece: string): Sent[] {
    const found: Sent[] = [];
    const lines = piece.split("\n");
    for (let at = 0; at < lines.length; at += 1) {
      const part = lines[at]!;
      if (at === lines.length - 1) {
        if (part !== "") this.#rest.push(part);
        this.#length += part.length;
        if (this.#length > LINE_CHARACTERS_MAX) throw new Error("the stream of events has a line without end");
        break;
      }
      const line = this.#rest.length === 0 ? part : this.#rest.join("") + part;
      this.#rest = [];
      this.#length = 0;
      const sent = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (sent !== null) found.push(sent);
    }
    return found;
  }

  #line(line: string): Sent | null {
    if (line === "") {
      const [id, data] = [this.#id, this.#data];
      this.#data = [];
      if (id === null || data.length === 0) return null;
      return { id, event: JSON.parse(data.join("\n")) as ZooEvent };
    }
    const colon = line.indexOf(":");
    // A line that begins with a colon is a sign of life.
    if (colon === 0) return null;
    const [field, rest] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1)];
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (field === "data") this.#data.push(value);
    else if (field === "id" && /^\d+$/.test(value)) this.#id = Number(value);
    return null;
  }
}

/** Reads events from number `from` on until the stream ends, `signal` says so, or `hear` returns false. */
export async function read(from: number, hear: (sent: Sent[]) => boolean, signal: AbortSignal, opened = (): void => {}): Promise<void> {
  const response = await fetch(`/v1/events?from=${from}`, { headers: { ...headers(), accept: "text/event-stream" }, signal });
  if (!response.ok || response.body === null) throw await refusalOf(response);
  opened();
  const [parser, decoder, reader] = [new Parser(), new TextDecoder(), response.body.getReader()];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const sent = parser.push(decoder.decode(value, { stream: true }));
      if (sent.length > 0 && !hear(sent)) return;
    }
  } finally {
    // Whatever comes of ending it, it has ended.
    await reader.cancel().catch(() => {});
  }
}

/** How long to wait before connecting again, ms: twice as long after each failure, and never more than half a minute. */
export function backoff(failures: number): number {
  return Math.min(30_000, 500 * 2 ** Math.min(failures, 10));
}
