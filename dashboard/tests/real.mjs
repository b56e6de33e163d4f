// The dashboard before a real orchestrator, with three nodes that train, and train each other's windows again. ZOO_BINARY names the binary.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { serve } from "../tools/serve.mjs";
import { artefacts, faults, isLive, launch, open, PAGES, until } from "./browser.mjs";
import { end, folder, start, submit, zoo } from "./processes.mjs";

const NAME = "<i>real</i> & small";
const directory = join(folder, "orchestrator");
let [browser, url, key, stop, ticket] = [];

before(async () => {
  const up = await start(["up", "--dir", directory, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]);
  ticket = up.ticket;
  const made = zoo("keys", "create", "dashboard", "--scope", "manage", "--dir", directory, "--json");
  key = JSON.parse(made.trim().split("\n").at(-1)).key;
  for (const [at, name] of ["lynx", "<b>otter</b>", "newt"].entries()) {
    await start(["join", ticket, "--dir", join(folder, `node-${at}`), "--threads", "1", "--name", name, "--region", "here", "--json"]);
  }
  submit(ticket, NAME, "--set", "rounds.minimum_nodes=2", "--set", "rounds.verified_in_1000=1000");
  // The binary's own pages where it has them; else those of this folder before it.
  const own = await fetch(`${up.http}/`);
  url = up.http;
  if (own.status !== 200) {
    const proxy = await serve({ proxy: new URL(up.http).host });
    [url, stop] = [proxy.url, proxy.stop];
  }
  console.log(own.status === 200 ? "# the binary's own pages" : "# this folder's pages before the binary");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await stop?.();
  await end();
});

test("a network that trains is shown as it trains, and is steered", { timeout: 180_000 }, async () => {
  const { page, complaints, requests, close } = await open(browser);
  await page.goto(url);
  await isLive(page);
  const tile = (label) => page.locator(".tile", { has: page.locator("dt", { hasText: new RegExp(`^${label}$`) }) }).locator("dd").first().textContent();
  await until(async () => (await page.locator("h2").textContent()) === NAME, "the job's name");
  await until(async () => (await tile("Nodes live")) === "3", "three nodes");
  await until(async () => Number(await tile("Loss")) > 0 && (await page.locator(".plot path.line").count()) > 0, "a loss and its curve", 90_000);
  const step = async () => Number((await page.locator(".hero .quiet").first().textContent()).match(/Step ([\d,]+)/)[1].replaceAll(",", ""));
  const first = await step();
  await until(async () => (await step()) > first, "more steps, without asking again", 60_000);
  // What is shown is what the interface says.
  const { jobs } = await (await fetch(`${url}/v1/jobs`)).json();
  assert.ok(Math.abs(jobs[0].steps - (await step())) <= 60 && jobs[0].of_steps === 4000);
  await page.screenshot({ path: `${artefacts}real-overview.png`, fullPage: true });

  await page.goto(`${url}/#/nodes`);
  await until(async () => (await page.locator(".grid-body [role=row]:visible").allTextContents()).join().includes("<b>otter</b>"), "all nodes");
  await page.goto(`${url}/#/rounds`);
  await until(async () => (await page.locator(".waterfall .grid-body [role=row]:visible").count()) >= 2, "lanes");
  const rounds = (await (await fetch(`${url}/v1/jobs/${jobs[0].id}/rounds`)).json()).rounds;
  const shown = Number((await page.locator("[role=grid]").first().getAttribute("aria-rowcount"))) - 1;
  assert.ok(Math.abs(shown - rounds.length) <= 2, `${shown} rounds of ${rounds.length}`);
  for (const name of PAGES) {
    await page.goto(`${url}/#/${name}`);
    await page.waitForTimeout(700);
    assert.deepEqual(await faults(page), [], name);
    if (name !== "") await page.screenshot({ path: `${artefacts}real-${name}.png` });
  }

  await page.goto(`${url}/#/trust`);
  const windows = async (name) => Number((await tile(name)).replaceAll(",", ""));
  await until(async () => (await windows("Equal")) > 0, "a window that another node came to the same with", 60_000);
  assert.deepEqual([await windows("Different"), await windows("Convictions")], [0, 0], "nobody lies here");
  await page.locator("[role=grid]").first().locator("[role=row]:visible", { hasText: "equal" }).first().click();
  await page.locator(".verdicts li").first().waitFor();
  const told = (await (await fetch(`${url}/v1/nodes`)).json()).nodes.reduce((sum, node) => sum + node.verified, 0);
  assert.ok(Math.abs(told - (await windows("Equal"))) <= 3, `${told} windows`);
  assert.deepEqual(await faults(page), [], "a check in full");
  await page.screenshot({ path: `${artefacts}real-trust.png`, fullPage: true });

  await page.goto(`${url}/#/`);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("dialog input").fill(key);
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator(".hero .chip").textContent()) === "paused", "paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await until(async () => (await page.locator(".hero .chip").textContent()) === "running", "running again");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Cancel" }).click();
  await until(async () => (await page.locator(".hero .chip").textContent()) === "cancelled", "cancelled");
  assert.equal((await (await fetch(`${url}/v1/jobs`)).json()).jobs[0].state, "cancelled");
  // A refusal for want of a key is what the browser itself writes to its console.
  assert.deepEqual(complaints.filter((text) => !text.includes("status of 401")), []);
  assert.deepEqual(requests.filter((asked) => !asked.startsWith(url) && !asked.startsWith("data:")), []);
  await close();
});
