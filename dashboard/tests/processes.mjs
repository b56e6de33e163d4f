// Real processes for the end-to-end tests, in a folder of their own. ZOO_BINARY names the binary.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const binary = process.env.ZOO_BINARY;
assert.ok(binary, "ZOO_BINARY names no binary; hint: ZOO_BINARY=target/release/zoo dashboard/test.sh");
const children = [];

export const folder = mkdtempSync(join(tmpdir(), "zoo-dashboard-"));

/** Starts a process, and gives the first JSON line that it prints. */
export function start(args) {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => { try { resolve(JSON.parse(line)); } catch { /* a line for people */ } });
    child.on("exit", (code) => reject(new Error(`${args[0]} ended with ${code}`)));
  });
}

/** Runs a command to its end, and gives what it printed. */
export const zoo = (...args) => execFileSync(binary, args, { encoding: "utf8" });

/** Submits a small job that takes a while; `more` are arguments of its own. */
export function submit(ticket, name, ...more) {
  const text = join(folder, "text.txt");
  writeFileSync(text, Array.from({ length: 4000 }, (_, at) => `Line ${at} says that ${at} plus ${at} is ${at + at}.\n`).join(""));
  zoo("submit", "--preset", "qwen3-tiny", "--data", text, "--name", name, "--steps", "4000", "--set", "rounds.inner_steps=20", "--network", ticket, "--json", ...more);
}

/** Ends all, the latest first, and removes the folder. */
export async function end() {
  for (const child of children.reverse()) {
    const ended = child.exitCode !== null || new Promise((resolve) => { child.once("exit", resolve); });
    child.kill("SIGTERM");
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
}
