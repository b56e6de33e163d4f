// The dashboard in a real browser, before a network of 10,000 nodes that does not exist.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { serve } from "../tools/serve.mjs";
import { HOSTILE, HOSTILE_JOB, KEY } from "../tools/simulate.mjs";
import { artefacts, faults, fits, isLive, launch, open, PAGES, until } from "./browser.mjs";

const NODES = 10_000;
const FIRST_PAINT_MAX_MS = 1000;
const FRAMES_PER_SECOND_MIN = 57;
/** What 60 frames a second and the work behind them may take of one processor. */
const PROCESSOR_SHARE_MAX = 0.85;
/** Tries at a figure that other work on the machine disturbs; the best counts. */
const TRIES = 4;
const measured = {};
let browser;
let server;

before(async () => {
  browser = await launch();
  server = await serve({ nodes: NODES, seed: 7 });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  writeFileSync(`${artefacts}measured.json`, `${JSON.stringify(measured, null, 2)}\n`);
});

const at = (page, name, query = "") => page.goto(`${server.url}/#/${name}${query}`);
const listed = (page) => page.waitForFunction((nodes) => document.querySelector("[role=grid][aria-label=Nodes]")?.getAttribute("aria-rowcount") === String(nodes + 1), NODES, { timeout: 60_000 });

test("the first paint is within a second, with 10,000 nodes", async () => {
  const paints = [];
  for (let run = 0; run < TRIES && !(Math.min(...paints) < FIRST_PAINT_MAX_MS); run += 1) {
    const { page, close } = await open(browser);
    await at(page, "nodes");
    await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
    paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    await close();
  }
  measured.first_contentful_paint_ms = paints.map(Math.round);
  assert.ok(Math.min(...paints) < FIRST_PAINT_MAX_MS, `painted after ${paints} ms`);
});

/** Frames a second of a page with nothing on it: what the machine has to give at the moment. */
async function framesOfNothing() {
  const { page, close } = await open(browser);
  const frames = await page.evaluate(async () => {
    const frame = () => new Promise(requestAnimationFrame);
    const start = await frame();
    let [now, count] = [start, 0];
    for (; now - start < 2000; count += 1) {
      document.body.style.backgroundColor = count % 2 === 0 ? "white" : "black";
      now = await frame();
    }
    return count * 1000 / (now - start);
  });
  await close();
  return Number(frames.toFixed(1));
}

/** Processor time that pages have taken so far, ms. */
async function cpuOfPages() {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  return processInfo.filter(({ type }) => type === "renderer").reduce((sum, { cpuTime }) => sum + cpuTime * 1000, 0);
}

test("scrolling through 10,000 nodes keeps the frame rate, and few rows exist", async () => {
  const { page, complaints, close } = await open(browser);
  await at(page, "nodes");
  await listed(page);
  const tries = [];
  const nothing = await framesOfNothing();
  const atRest = await cpuOfPages();
  const rested = performance.now();
  await page.waitForTimeout(4000);
  const restShare = (await cpuOfPages() - atRest) / (performance.now() - rested);
  for (let run = 0; run < TRIES && !(Math.max(...tries.map((one) => one.frames_per_second)) >= FRAMES_PER_SECOND_MIN); run += 1) {
    const [before, began] = [await cpuOfPages(), performance.now()];
    const one = await page.evaluate(async () => {
      const grid = document.querySelector("[role=grid]");
      const frame = () => new Promise(requestAnimationFrame);
      const times = [await frame()];
      let rows = 0;
      while (times.at(-1) - times[0] < 3000) {
        grid.scrollTop = (grid.scrollTop + 160) % (grid.scrollHeight - grid.clientHeight);
        times.push(await frame());
        rows = Math.max(rows, grid.querySelectorAll("[role=row]").length);
      }
      const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
      return {
        frames_per_second: Number((gaps.length * 1000 / (times.at(-1) - times[0])).toFixed(1)), frames: gaps.length, rows,
        median_ms: gaps[gaps.length >> 1], p95_ms: gaps[Math.floor(gaps.length * 0.95)], slowest_ms: gaps.at(-1),
      };
    });
    const [cpu, wall] = [await cpuOfPages() - before, performance.now() - began];
    const perFrame = Math.max(0, cpu - restShare * wall) / one.frames;
    tries.push({ ...one, cpu_ms_per_frame: Number(perFrame.toFixed(2)), processor_share_at_60: Number((perFrame * 0.06 + restShare).toFixed(2)) });
  }
  measured.empty_page_frames_per_second = nothing;
  measured.processor_share_at_rest = Number(restShare.toFixed(2));
  measured.scrolling = tries;
  const best = tries.reduce((best, one) => (one.frames_per_second > best.frames_per_second ? one : best));
  assert.ok(best.rows < 60, `${best.rows} rows exist`);
  // Where other work keeps even an empty page from its rate, what frames take of a processor decides.
  const keepsRate = best.frames_per_second >= FRAMES_PER_SECOND_MIN;
  assert.ok(keepsRate || (nothing < FRAMES_PER_SECOND_MIN && best.processor_share_at_60 <= PROCESSOR_SHARE_MAX), JSON.stringify({ nothing, tries }));
  // The rows that are in view are those that belong there.
  const { top, height, index, texts } = await page.evaluate(async () => {
    const grid = document.querySelector("[role=grid]");
    grid.scrollIntoView();
    for (let frames = 0; frames < 2; frames += 1) await new Promise(requestAnimationFrame);
    const box = grid.getBoundingClientRect();
    const row = document.elementFromPoint(box.left + 40, box.top + box.height / 2).closest("[role=row]");
    return { top: grid.scrollTop, height: box.height, index: Number(row.getAttribute("aria-rowindex")), texts: row.textContent };
  });
  assert.ok(Math.abs(index - 2 - (top + height / 2 - 41) / 36) < 1.5 && texts.length > 10);
  assert.deepEqual(complaints, []);
  await close();
});

for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`every page is accessible, fits and is silent: ${scheme}, ${width} pixels`, async () => {
      const { page, complaints, requests, close } = await open(browser, { scheme, width, height: width === 360 ? 740 : 900 });
      for (const name of PAGES) {
        await at(page, name);
        await isLive(page);
        if (name === "nodes") await listed(page);
        await page.waitForTimeout(900);
        assert.deepEqual(await faults(page), [], name);
        await fits(page, name);
        assert.equal(await page.locator("h1").textContent(), await page.locator("nav [aria-current=page]").textContent());
        await page.screenshot({ path: `${artefacts}${name || "overview"}-${scheme}-${width}.png`, fullPage: true });
      }
      assert.deepEqual(complaints, []);
      assert.deepEqual(requests.filter((url) => !url.startsWith(server.url) && !url.startsWith("data:")), []);
      await close();
    });
  }
}

test("names are text, whatever they look like", async () => {
  const { page, complaints, close } = await open(browser);
  const hostile = server.simulation.nodes.filter((node) => HOSTILE.includes(node.name));
  assert.equal(hostile.length, HOSTILE.length);
  for (const node of hostile) {
    await at(page, "nodes", `?q=${node.id}&node=${node.id}`);
    const panel = page.locator(".panel h3");
    await until(async () => (await panel.textContent()) === node.name, `the panel of ${node.name}`);
    assert.equal(await page.locator(".grid-body [role=gridcell]").first().textContent(), node.name);
  }
  const job = server.simulation.jobs.find((job) => job.name === HOSTILE_JOB);
  await at(page, "", `?job=${job.id}`);
  await until(async () => (await page.locator("h2").textContent()) === HOSTILE_JOB, "the job's name");
  await at(page, "jobs");
  await until(async () => (await page.locator(".grid a").allTextContents()).includes(HOSTILE_JOB), "the job in the list");
  await at(page, "journal", "?q=hacked");
  // What is long past is loaded when somebody asks for it.
  const older = page.getByRole("button", { name: "Load older" });
  await until(async () => {
    if ((await page.locator(".grid-body [role=row]:visible").count()) > 0) return true;
    if (await older.isVisible()) await older.click();
    return false;
  }, "events with the name");
  // Also where they are accused, and the words are theirs.
  await at(page, "trust");
  const grids = page.locator("[role=grid]");
  await until(async () => (await grids.nth(1).locator("[role=row]:visible", { hasText: `cannot be added: ${HOSTILE[0]}` }).count()) > 0, "an accusation in its words");
  await grids.nth(1).locator("[role=row]", { hasText: "cannot be added" }).first().click();
  await page.getByLabel("Find").fill("hacked");
  await until(async () => (await grids.nth(0).locator(".grid-body [role=row]:visible").count()) > 0, "checks with the names");
  await grids.nth(0).locator(".grid-body [role=row]:visible").first().click();
  await page.locator(".verdicts li").first().waitFor();
  for (const name of ["rounds", "checkpoints"]) {
    await at(page, name, `?job=${job.id}`);
    await page.waitForTimeout(800);
  }
  // Nor does the address become anything but text.
  await at(page, "nodes", `?q=${encodeURIComponent("<img src=x onerror=window.hacked=1>")}&region=${encodeURIComponent("<script>window.hacked=1</script>")}`);
  await page.waitForTimeout(800);
  const { ran, strange } = await page.evaluate(() => ({ ran: window.hacked, strange: document.querySelectorAll("main img, main script, main b b, iframe, [onclick], [onerror]").length }));
  assert.deepEqual([ran, strange, complaints], [undefined, 0, []]);
  await close();
});

test("the policy refuses what is inline, from elsewhere, or HTML made of text", async () => {
  const { page, close } = await open(browser);
  await at(page, "");
  await isLive(page);
  const outcome = await page.evaluate(async () => {
    const script = document.createElement("script");
    const refused = {};
    try { script.textContent = "window.hacked=1"; document.body.append(script); } catch { /* refused before it runs */ }
    try { document.body.innerHTML = "<b>text</b>"; refused.html = false; } catch { refused.html = true; }
    refused.fetch = await fetch("http://192.0.2.1/").then(() => false, () => true);
    return { ...refused, ran: window.hacked };
  });
  assert.deepEqual(outcome, { html: true, fetch: true, ran: undefined });
  await close();
});

test("a keyboard reaches and reads everything", async () => {
  const { page, close } = await open(browser);
  await at(page, "nodes");
  await listed(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the page");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
  const grid = page.locator("[role=grid]");
  await grid.focus();
  await page.keyboard.press("End");
  const last = await page.evaluate(() => {
    const row = document.getElementById(document.activeElement.getAttribute("aria-activedescendant"));
    const [box, frame] = [row.getBoundingClientRect(), document.activeElement.getBoundingClientRect()];
    return { index: row.getAttribute("aria-rowindex"), inView: box.top >= frame.top && box.bottom <= frame.bottom + 1 };
  });
  assert.deepEqual(last, { index: String(NODES + 1), inView: true });
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".panel").isVisible(), true);
  assert.equal(await page.evaluate(() => document.activeElement.closest(".panel") !== null), true);
  assert.match(page.url(), /node=[0-9a-f]{64}/);
  await page.screenshot({ path: `${artefacts}node-light-1280.png` });
  await page.locator(".panel button").press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "grid");
  await page.getByRole("columnheader", { name: "Name" }).getByRole("button").press("Enter");
  assert.equal(await page.getByRole("columnheader", { name: "Name" }).getAttribute("aria-sort"), "ascending");
  await at(page, "");
  const chart = page.locator(".plot-frame").first();
  await until(async () => (await page.locator(".plot path.line").count()) > 0, "a line");
  await chart.focus();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  assert.match(await page.locator(".reading").first().textContent(), /^training \d\.\d\d at step .*held out \d\.\d\d at step/);
  await page.locator(".chart summary").first().press("Enter");
  await until(async () => (await page.locator(".chart table tr").count()) > 20, "the chart as a table");
  await close();
});

test("the stream is cut and goes on where it was, and the page says so", async () => {
  const { page, complaints, close } = await open(browser);
  await at(page, "journal");
  await isLive(page);
  const words = [];
  await page.exposeFunction("heard", (text) => { words.push(text); });
  await page.evaluate(() => new MutationObserver(() => window.heard(document.querySelector(".status").textContent)).observe(document.querySelector(".status"), { childList: true, characterData: true, subtree: true }));
  server.simulation.cut();
  await until(() => words.some((text) => text.startsWith("Not connected")), "the line of state");
  const missed = server.simulation.events.length;
  await until(() => words.at(-1) === "Live", "live again");
  const number = async () => Number((await page.locator(".facts dd").nth(1).textContent()).replaceAll(",", ""));
  await until(async () => (await number()) > missed, "events of the meantime and after");
  const known = await page.locator("p.quiet", { hasText: "known from number" }).textContent();
  const [, shown, all, from] = known.match(/^([\d,]+) events of ([\d,]+); known from number ([\d,]+) on/).map((text) => Number(text.replaceAll(",", "")));
  assert.equal(shown, all - from, "without a gap");
  assert.deepEqual(complaints, []);
  await close();
});

test("a moment of the past is shown, linked to and filtered", async () => {
  const { page, close } = await open(browser);
  await at(page, "journal");
  await until(async () => Number(await page.locator("input[type=range]").getAttribute("max")) > 500, "events");
  const fact = (name) => page.locator(".scrubber .facts div", { hasText: name }).locator("dd").first().textContent();
  const newest = await fact("Nodes live");
  // Late enough that the beginning of its round is loaded as well, however many contribute.
  const loadedFirst = Number(await page.locator("input[type=range]").getAttribute("max"));
  await page.locator("input[type=range]").fill(String(loadedFirst - 60));
  await until(async () => (await fact("Phase")) !== "", "a phase");
  const number = (await fact("Event")).replaceAll(",", "");
  assert.match(page.url(), new RegExp(`event=${number}`));
  assert.match(await fact("Phase"), /training|aggregating|between rounds/);
  assert.notEqual(newest, "0");
  const before = await page.locator("pre").textContent();
  await page.reload();
  await until(async () => (await fact("Event")).replaceAll(",", "") === number, "the same event");
  assert.equal(await page.locator("pre").textContent(), before);
  await page.getByLabel("Kind").selectOption("round_sealed");
  await page.waitForTimeout(500);
  const kinds = new Set(await page.locator(".grid-body [role=row]:visible [role=gridcell]:nth-child(3)").allTextContents());
  assert.deepEqual([...kinds], ["round sealed"]);
  const loaded = Number(await page.locator("input[type=range]").getAttribute("max"));
  await page.getByRole("button", { name: "Load older" }).click();
  await until(async () => Number(await page.locator("input[type=range]").getAttribute("max")) > loaded + 900, "older events");
  await close();
});

test("runs are compared, and the address says which", async () => {
  const { page, close } = await open(browser);
  await at(page, "jobs");
  await until(async () => (await page.locator(".plot path.line").count()) === 2, "two lines");
  const box = page.getByRole("checkbox", { name: "Compare small, dense" });
  await box.check();
  await until(async () => (await page.locator(".plot path.line").count()) === 3, "three lines");
  await page.getByLabel("Measure").selectOption("bits");
  await page.getByLabel("Over").selectOption("time");
  await until(async () => (await page.locator(".plot .axis").last().textContent()) === "bits per byte", "another measure");
  assert.match(page.url(), /y=bits/);
  await page.reload();
  await until(async () => (await page.locator(".plot path.line").count()) === 3, "three lines again");
  assert.equal(await box.isChecked(), true);
  await close();
});

test("a round's contributions are laid out from its start to its end", async () => {
  const { page, close } = await open(browser);
  await at(page, "rounds");
  await until(async () => (await page.locator(".waterfall .lane i").count()) > 20, "lanes");
  const spans = await page.locator(".waterfall .grid-body [role=row]:visible").first().locator(".lane i:visible").evaluateAll((parts) => parts.map((part) => [part.dataset.kind, parseFloat(part.style.left), parseFloat(part.style.width)]));
  assert.deepEqual(spans.map(([kind]) => kind), ["training", "waiting", "aggregating"]);
  for (const [index, [, left, width]] of spans.entries()) assert.ok(Math.abs(left + width - (spans[index + 1]?.[1] ?? 100)) < 1);
  await page.locator("[role=grid]").first().focus();
  await page.keyboard.press("PageDown");
  await page.keyboard.press("Enter");
  assert.match(page.url(), /round=\d+/);
  await close();
});

test("checks, disputes and exclusions come as they happen, and open down to the events that say so", async () => {
  const { page, complaints, close } = await open(browser);
  await at(page, "trust");
  await isLive(page);
  const tile = async (name) => Number((await page.locator(".tile", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd").first().textContent()).replaceAll(",", ""));
  await until(async () => (await tile("Trained again")) > 20 && (await tile("Under way")) > 0, "checks");
  const before = await tile("Trained again");
  const [checks, faults_] = [page.getByRole("grid", { name: "Checks" }), page.getByRole("grid", { name: "Exclusions" })];
  await until(async () => (await tile("Trained again")) > before, "a new check, without loading");
  const sum = await page.evaluate(() => [...document.querySelectorAll(".tile dd:nth-of-type(1)")].map((figure) => Number(figure.textContent.replaceAll(",", ""))));
  assert.equal(sum[0], sum[1] + sum[2] + sum[3] + sum[4], `${sum}: every check is under way or ended`);
  assert.ok((await checks.locator("[role=row]").count()) < 60);

  // Down to the evidence, with the keyboard alone.
  await page.getByLabel("Show").selectOption("different");
  await until(async () => (await checks.locator(".chip").allTextContents()).some((word) => word === "different"), "those that were different");
  await checks.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  const panel = page.locator("section[aria-label=Check]");
  assert.equal(await page.evaluate(() => document.activeElement.closest("section").getAttribute("aria-label")), "Check");
  assert.match(page.url(), /check=\d+/);
  const [digests, verdicts] = [panel.locator(".facts .mono"), panel.locator(".verdicts li")];
  const [committed, right] = await digests.allTextContents();
  assert.match(`${committed} ${right}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
  assert.notEqual(committed, right);
  assert.deepEqual((await verdicts.locator(".chip").allTextContents()).sort(), ["different", "different", "released"]);
  assert.deepEqual(await verdicts.locator(".mono").allTextContents(), [right, right]);
  assert.deepEqual(await faults(page), []);
  await page.screenshot({ path: `${artefacts}check-light-1280.png`, fullPage: true });
  const address = page.url();
  await page.reload();
  await until(async () => (await digests.allTextContents()).join() === `${committed},${right}`, "the same evidence at the same address");
  await panel.locator(".facts").getByRole("link", { name: /^event/ }).last().click();
  await until(async () => (await page.locator("pre").textContent()).includes(committed), "the event in the journal");
  assert.match(await page.locator("pre").textContent(), /WrongWindow/);

  await page.goto(address);
  await faults_.locator("[role=row]", { hasText: "it committed to" }).first().click();
  const exclusion = page.locator("section[aria-label=Exclusion]");
  assert.equal(await exclusion.locator(".facts .mono").count(), 2);
  await exclusion.getByRole("button", { name: /^Round/ }).click();
  await until(async () => (await page.evaluate(() => document.activeElement.closest("section")?.getAttribute("aria-label"))) === "Check", "its check");
  await page.setViewportSize({ width: 360, height: 740 });
  await page.waitForTimeout(600);
  assert.deepEqual(await faults(page), []);
  await fits(page, "both panels");
  await page.screenshot({ path: `${artefacts}check-light-360.png`, fullPage: true });
  await panel.getByRole("button", { name: "Close" }).press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "grid");
  assert.deepEqual(complaints, []);
  await close();
});

test("nodes that verify are shown as that, and their accounts with them", async () => {
  const { page, close } = await open(browser, { width: 1800 });
  await at(page, "nodes", "?q=verifying&sort=verified");
  await until(async () => (await page.locator(".grid-body [role=row]:visible .chip[data-kind=verifying]").count()) > 0, "a node that verifies");
  assert.equal(await page.getByRole("columnheader", { name: "Verified" }).getAttribute("aria-sort"), "descending");
  await page.locator(".grid-body [role=row]:visible").first().click();
  const names = await page.locator(".panel dt").allTextContents();
  for (const name of ["Windows verified", "Verified for others", "Convictions", "Checks"]) assert.ok(names.includes(name), name);
  await page.locator(".panel a", { hasText: "of its work" }).click();
  await until(async () => (await page.getByRole("grid", { name: "Checks" }).locator(".grid-body [role=row]:visible").count()) > 0, "its checks");
  await close();
});

test("steering asks for a key, says what is wrong with it, and forgets it with the tab", async () => {
  const own = await serve({ nodes: 20, seed: 3, paceMs: 400 });
  const { page, close } = await open(browser);
  await page.goto(own.url);
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator("dialog input").fill("wrong");
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator("dialog").count()) === 1 && (await page.locator("dialog input").inputValue()) === "", "asked again");
  assert.deepEqual(await faults(page), []);
  await page.screenshot({ path: `${artefacts}key-light-1280.png` });
  await page.locator("dialog input").fill(KEY);
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator(".hero .chip").textContent()) === "paused", "paused");
  await page.getByRole("button", { name: "Resume" }).click();
  await until(async () => (await page.locator(".hero .chip").textContent()) === "running", "running");
  page.once("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Cancel" }).click();
  await until(() => own.simulation.current.state === "cancelled", "cancelled");
  const kept = await page.evaluate(() => [localStorage.length, document.cookie, Object.keys(sessionStorage).length]);
  assert.deepEqual(kept, [0, "", 1]);
  await close();
  await own.stop();
});

test("a private network asks for a key before it shows anything", async () => {
  const own = await serve({ nodes: 20, seed: 3, isPrivate: true });
  const { page, close } = await open(browser);
  await page.goto(own.url);
  await page.locator("dialog input").fill(KEY);
  await page.keyboard.press("Enter");
  await isLive(page);
  await until(async () => (await page.locator("h2").textContent()) === "small, sparse", "the job");
  await close();
  await own.stop();
});

test("nodes are asked for gently: a page every two seconds, and none where nobody looks at them", async () => {
  const { page, requests, close } = await open(browser);
  await at(page, "nodes");
  await listed(page);
  const asked = () => requests.filter((url) => url.includes("/v1/nodes")).length;
  const first = asked();
  await page.waitForTimeout(5000);
  const meanwhile = asked() - first;
  assert.ok(meanwhile >= 1 && meanwhile <= 3, `${meanwhile} requests in 5 s`);
  await at(page, "about");
  await page.waitForTimeout(2500);
  const second = asked();
  await page.waitForTimeout(4500);
  assert.equal(asked() - second, 0);
  await close();
});
