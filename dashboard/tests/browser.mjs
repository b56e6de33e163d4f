// What the end-to-end tests share: a browser, pages that complain, screenshots that are kept.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const PAGES = ["", "jobs", "nodes", "rounds", "checkpoints", "trust", "journal", "about"];
export const artefacts = fileURLToPath(new URL("../artefacts/", import.meta.url));
mkdirSync(artefacts, { recursive: true });
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A real Chromium: that of ZOO_CHROMIUM, or the machine's own. */
export function launch() {
  return chromium.launch({ executablePath: process.env.ZOO_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

/** A page of its own, as if in another browser. What it complains about, and whom it asks, is in `complaints` and `hosts`. */
export async function open(browser, { scheme = "light", width = 1280, height = 900, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, ...options });
  const page = await context.newPage();
  const [complaints, requests] = [[], []];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
  page.on("pageerror", (cause) => complaints.push(String(cause)));
  page.on("request", (request) => requests.push(request.url()));
  return { page, complaints, requests, close: () => context.close() };
}

export const isLive = (page) => page.waitForFunction(() => document.querySelector(".status")?.dataset.link === "live", null, { timeout: 30_000 });

/** Serious and critical faults of accessibility; axe runs beside the page, past its policy. */
export async function faults(page) {
  // As a tool of the browser, not as a script of the page: the page's policy stays in force.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: AXE });
  await session.detach();
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.slice(0, 3).map((node) => `${node.target.join(" ")}: ${node.failureSummary}`) }));
  });
  return found.filter(({ impact }) => impact === "serious" || impact === "critical");
}

/** Fails if the page is wider than its window. */
export async function fits(page, what) {
  const { content, view } = await page.evaluate(() => ({ content: document.documentElement.scrollWidth, view: document.documentElement.clientWidth }));
  assert.ok(content <= view, `${what} is ${content} pixels wide in a window of ${view}`);
}

/** Waits until `look` says so. */
export async function until(look, what, ms = 30_000) {
  const end = Date.now() + ms;
  for (;;) {
    if (await look()) return;
    assert.ok(Date.now() < end, `${what}: not within ${ms} ms`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}
