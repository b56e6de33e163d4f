// The page of a node (crates/page), in a real browser before a node that trains.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { artefacts, faults, fits, launch, open, until } from "./browser.mjs";
import { end, folder, start, submit } from "./processes.mjs";

const NAME = "<img src=x onerror=alert(1)>lynx";
let [browser, url] = [];

before(async () => {
  const up = await start(["up", "--dir", join(folder, "orchestrator"), "--listen", "127.0.0.1:0", "--no-http", "--json"]);
  const node = ["join", up.ticket, "--dir", join(folder, "node"), "--threads", "1", "--max-upload", "2048", "--name", NAME, "--page", "127.0.0.1:0", "--json"];
  ({ url } = await start(node));
  submit(up.ticket, "small");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await end();
});

test("a node is shown as it works, and is paused and resumed", { timeout: 180_000 }, async () => {
  const { page, complaints, requests, close } = await open(browser);
  await page.goto(url);
  const fact = async (name) => (await page.locator(".facts > div", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd").first().textContent());
  const is = (word) => until(async () => (await page.locator("#state").textContent()) === word, word, 90_000);
  await until(async () => (await page.locator("h1").textContent()) === NAME, "its name, as text");
  assert.equal(await page.locator("main img").count(), 0);
  await until(async () => Number(await fact("Contributions accepted")) >= 2, "accepted contributions", 90_000);
  assert.equal(await fact("Upload"), "2.00 MiB a second");
  assert.equal(await fact("Threads"), "1");
  assert.ok((await page.locator("#rounds tr").count()) >= 2);
  await until(async () => Number(await fact("Rounds it counted in")) >= 1, "rounds that counted, as the network says");
  assert.equal(await page.locator("#trusted").textContent(), "Nothing of its was done again by others so far.", "nobody else is there");
  assert.equal(await fact("Kept out through round"), "–");
  await until(() => page.locator("#progress").isVisible(), "progress of a window");
  await page.screenshot({ path: `${artefacts}page.png`, fullPage: true });

  // With the keyboard alone.
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "toggle");
  await page.keyboard.press("Enter");
  await is("paused");
  assert.match(await page.getByRole("status").textContent(), /^Paused\./);
  assert.equal(await page.locator("#toggle").textContent(), "Resume");
  const before = Number((await fact("Windows trained")).replaceAll(",", ""));
  await page.screenshot({ path: `${artefacts}page-paused.png`, fullPage: true });
  assert.deepEqual(await faults(page), [], "while it is paused");
  await page.keyboard.press("Enter");
  await until(async () => Number((await fact("Windows trained")).replaceAll(",", "")) > before, "more windows after the pause", 90_000);
  assert.equal(await page.locator("#alert").textContent(), "");
  assert.deepEqual(complaints, []);
  assert.deepEqual(requests.filter((asked) => !asked.startsWith(url) && !asked.startsWith("data:")), []);
  await close();
});

for (const scheme of ["light", "dark"]) {
  test(`the page can be read by everybody on a telephone, ${scheme}`, { timeout: 60_000 }, async () => {
    const { page, complaints, close } = await open(browser, { scheme, width: 360, height: 740 });
    await page.goto(url);
    await page.locator("#page").waitFor();
    await fits(page, "the page");
    assert.deepEqual(await faults(page), []);
    assert.deepEqual(complaints, []);
    await page.screenshot({ path: `${artefacts}page-${scheme}.png`, fullPage: true });
    await close();
  });
}

test("a page of another site cannot pause the node", { timeout: 60_000 }, async () => {
  const { page, close } = await open(browser);
  // Another origin, which its browser lets do what it likes.
  const foreign = createServer((_, answer) => { answer.setHeader("content-type", "text/html"); answer.end("<title>elsewhere</title>"); });
  await new Promise((resolve) => { foreign.listen(0, "127.0.0.1", resolve); });
  await page.goto(`http://127.0.0.1:${foreign.address().port}/`);
  const tried = await page.evaluate(async (node) => {
    const outcome = (options) => fetch(`${node}/v1/node/pause`, { method: "POST", ...options }).then(({ type }) => type, () => "refused");
    return [await outcome({ mode: "no-cors" }), await outcome({ headers: { "X-Zoo-Page": "1" } })];
  }, url);
  assert.deepEqual(tried, ["opaque", "refused"], "sent and not read; not sent");
  assert.equal((await (await fetch(`${url}/v1/node`)).json()).paused, false);
  await close();
  foreign.close();
});
