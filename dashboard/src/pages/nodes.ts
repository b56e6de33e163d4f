// Who works here: how many where, what each one does, and what it has done.

import type { PNode } from "../api.ts";
import { chip, fill, h, mark, say } from "../dom.ts";
import { brief, bytes, count, decimals, percent, plural, short } from "../format.ts";
import type { Context, View } from "../pages.ts";
import { choice, facts, field } from "../parts.ts";
import { href } from "../route.ts";
import { Grid } from "../virtual.ts";

const ACTIVITIES = ["training", "aggregating", "evaluating", "verifying", "waiting", "away"] as const;
/** So many nodes are sorted and counted with every change; more of them, every two seconds, and not while somebody scrolls. */
const NODES_AT_ONCE = 500;
const SORT_MS = 2000;
/** Tiles of regions; of more, the largest. */
const REGIONS_MAX = 48;

interface Group { name: string; nodes: number; live: number; by: Record<string, number> }

/** Nodes by a word of theirs, the largest group first. */
export function groups(nodes: Iterable<PNode>, word: (node: PNode) => string): Group[] {
  const found = new Map<string, Group>();
  for (const node of nodes) {
    const name = word(node);
    let group = found.get(name);
    if (group === undefined) found.set(name, group = { name, nodes: 0, live: 0, by: {} });
    group.nodes += 1;
    group.live += Number(node.live);
    group.by[node.activity] = (group.by[node.activity] ?? 0) + 1;
  }
  return [...found.values()].sort((a, b) => b.nodes - a.nodes || a.name.localeCompare(b.name));
}

/** What the nodes are sorted by: a word or a figure. */
const sorts: Record<string, (node: PNode) => string | number> = {
  name: (node) => node.name.toLowerCase(), activity: (node) => ACTIVITIES.indexOf(node.activity), region: (node) => node.region,
  isa: (node) => node.isa, speed: (node) => node.status?.tokens_per_second ?? 0, tokens: (node) => node.tokens, share: (node) => node.tokens,
  missed: (node) => node.missed, faults: (node) => node.faults,
  verified: (node) => node.verified, verifications: (node) => node.verifications, convictions: (node) => node.convictions, upload: (node) => node.upload_kib_per_s ?? 0,
};

/** The nodes that are wanted, in order. */
export function select(nodes: Iterable<PNode>, wanted: { text: string; region: string | null; live: string; sort: string; down: boolean }): PNode[] {
  const text = wanted.text.trim().toLowerCase();
  const found: PNode[] = [];
  for (const node of nodes) {
    if (wanted.region !== null && node.region !== wanted.region) continue;
    if (wanted.live === "live" && !node.live) continue;
    if (wanted.live === "away" && node.live) continue;
    if (text !== "" && !`${node.name} ${node.region} ${node.isa} ${node.activity} ${node.id}`.toLowerCase().includes(text)) continue;
    found.push(node);
  }
  const of = sorts[wanted.sort] ?? sorts.name!;
  const sign = wanted.down ? -1 : 1;
  const keyed = found.map((node) => ({ node, key: of(node) }));
  keyed.sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : a.node.id < b.node.id ? -1 : 1));
  return keyed.map(({ node }) => node);
}

export function nodes({ store, query, remember }: Context): View {
  const { model } = store;
  const wanted = {
    text: query.get("q") ?? "", region: query.get("region"), live: query.get("live") ?? "all",
    sort: (query.get("sort") ?? "") in sorts ? query.get("sort")! : "tokens", down: query.get("order") !== "up",
  };
  let chosen = query.get("node");
  /** Tokens of everybody. */
  let all = 0;

  const total = h("p", { class: "quiet", role: "status" });
  const map = h("ul", { class: "regions" });
  const sets = h("ul", { class: "bars" });
  const filter = h("input", { type: "search", value: wanted.text, placeholder: "name, region, key", input: () => { wanted.text = filter.value; keep(); } });
  const clear = h("button", { type: "button", click: () => { wanted.region = null; keep(); } }, "Every region");
  const panel = h("section", { class: "card panel", "aria-label": "Node", hidden: true });
  const panelName = h("h3", { tabindex: -1 });
  const list = h("dl", { class: "facts" });
  panel.append(h("div", { class: "title" }, panelName, h("button", { type: "button", click: () => show(null) }, "Close")), list);

  const figure = (of: (node: PNode) => string) => (cell: HTMLElement, node: PNode): void => say(cell, of(node));
  const grid = new Grid<PNode>({
    label: "Nodes", rowHeight: 36, empty: "No node is like that.", id: (node) => node.id, choose: (node) => show(node.id),
    sort: (key) => { [wanted.sort, wanted.down] = [key, wanted.sort === key ? !wanted.down : key !== "name"]; keep(); },
    columns: [
      { key: "name", label: "Name", width: "minmax(8rem, 2fr)", cell: figure((node) => node.name || brief(node.id)) },
      {
        key: "activity", label: "Activity", width: "7.5rem", cell: (cell, node) => {
          const word = node.suspected ? "suspected" : node.activity;
          if (cell.textContent !== word) fill(cell, chip(word));
        },
      },
      { key: "region", label: "Region", width: "minmax(5rem, 1fr)", wide: true, cell: figure((node) => node.region || "anywhere") },
      { key: "isa", label: "ISA", width: "4.5rem", wide: true, cell: figure((node) => node.isa) },
      { key: "speed", label: "Tokens/s", width: "5rem", right: true, wide: true, cell: figure((node) => short(node.status?.tokens_per_second)) },
      { key: "tokens", label: "Tokens", width: "4.5rem", right: true, cell: figure((node) => short(node.tokens)) },
      { key: "share", label: "Share", width: "4rem", right: true, wide: true, cell: figure((node) => all > 0 ? `${(100 * node.tokens / all).toFixed(node.tokens * 10 < all ? 2 : 0)}%` : "–") },
      { key: "upload", label: "Upload", width: "6rem", right: true, wide: true, cell: figure((node) => node.upload_kib_per_s === null ? "–" : `${bytes(node.upload_kib_per_s * 1024)}/s`) },
      { key: "missed", label: "Missed", width: "4.5rem", right: true, wide: true, cell: figure((node) => count(node.missed)) },
      { key: "faults", label: "Faults", width: "4.5rem", right: true, wide: true, cell: figure((node) => count(node.faults)) },
      { key: "verified", label: "Verified", width: "5rem", right: true, wide: "very", cell: figure((node) => count(node.verified)) },
      { key: "verifications", label: "Verifies", width: "5rem", right: true, wide: "very", cell: figure((node) => count(node.verifications)) },
      { key: "convictions", label: "Convictions", width: "6.5rem", right: true, wide: "very", cell: figure((node) => count(node.convictions)) },
    ],
  });

  const element = h("div", {}, total,
    h("section", { class: "card" }, h("h3", {}, "Regions"), map),
    h("section", { class: "card" }, h("h3", {}, "Instruction sets"), sets),
    h("div", { class: "fields" }, field("Find", filter),
      field("Show", choice([["all", "all"], ["live", "live"], ["away", "away"]], wanted.live, (value) => { wanted.live = value; keep(); })), clear),
    h("div", { class: "split" }, grid.element, panel));

  function keep(): void {
    remember({ q: wanted.text, region: wanted.region, live: wanted.live === "all" ? null : wanted.live, sort: wanted.sort, order: wanted.down ? null : "up", node: chosen });
    draw();
  }
  function show(id: string | null): void {
    chosen = id;
    keep();
    if (id !== null) panelName.focus();
    else (grid.element.firstElementChild as HTMLElement).focus();
  }

  const bar = (group: Group): HTMLElement => h("span", { class: "stack", "aria-hidden": "true" },
    ...ACTIVITIES.filter((activity) => group.by[activity]).map((activity) => {
      const part = h("i", { "data-kind": activity });
      part.style.flexGrow = String(group.by[activity]);
      return part;
    }));
  const told = (group: Group): string => ACTIVITIES.filter((activity) => group.by[activity])
    .map((activity) => `${count(group.by[activity])} ${activity}`).join(", ");

  let mapped = "";
  function drawGroups(): void {
    const regions = groups(model.nodes.values(), (node) => node.region);
    const isas = groups(model.nodes.values(), (node) => node.isa);
    const state = JSON.stringify([regions, isas, wanted.region]);
    if (state === mapped) return;
    mapped = state;
    const focused = document.activeElement?.closest<HTMLElement>("[data-region]")?.dataset.region;
    fill(map, ...regions.slice(0, REGIONS_MAX).map((group) => h("li", {}, h("button", {
      type: "button", "data-region": group.name, "aria-pressed": wanted.region === group.name ? "true" : "false",
      click: () => { wanted.region = wanted.region === group.name ? null : group.name; keep(); },
    }, h("b", {}, group.name || "anywhere"), h("span", { class: "number" }, count(group.live)), bar(group), h("span", { class: "quiet" }, told(group))))),
      regions.length > REGIONS_MAX && h("li", { class: "quiet" }, `and ${plural(regions.length - REGIONS_MAX, "region")} more`));
    if (focused !== undefined) [...map.querySelectorAll<HTMLElement>("[data-region]")].find((tile) => tile.dataset.region === focused)?.focus();
    fill(sets, ...isas.slice(0, 8).map((group) => h("li", {}, h("b", {}, group.name || "unknown"), bar(group),
      h("span", { class: "quiet" }, `${plural(group.nodes, "node")}: ${told(group)}`))));
  }

  let [sortedAt, wasListed] = [-Infinity, false];
  function update(): void {
    const isMany = model.nodes.size > NODES_AT_ONCE && store.nodesListed === wasListed;
    if (isMany && (grid.isMoving || performance.now() - sortedAt < SORT_MS)) return;
    draw();
  }
  function draw(): void {
    [sortedAt, wasListed] = [performance.now(), store.nodesListed];
    drawGroups();
    all = 0;
    for (const node of model.nodes.values()) all += node.tokens;
    const found = select(model.nodes.values(), wanted);
    say(total, `${count(model.live)} of ${plural(model.nodes.size, "node")} here${store.nodesListed ? "" : "; more are being listed"}`
      + `${found.length === model.nodes.size ? "" : `; ${count(found.length)} shown`}.`);
    clear.hidden = wanted.region === null;
    grid.sorted(wanted.sort, wanted.down);
    grid.set(found);
    const node = chosen === null ? undefined : model.nodes.get(chosen);
    panel.hidden = node === undefined;
    mark(element, "data-open", node === undefined ? null : "");
    grid.chosen(chosen);
    if (node === undefined) return;
    say(panelName, node.name || brief(node.id));
    const { status } = node;
    const reliable = node.contributions + node.missed;
    facts(list, [
      ["Key", node.id], ["Activity", node.suspected ? `${node.activity}, suspected` : node.activity], ["Region", node.region || "anywhere"],
      ["Instruction set", node.isa], ["Threads", count(node.threads)], ["Memory", bytes(node.memory_mib * 1048576)], ["Software", node.software],
      ["Worth in f32-exact", `${count(node.speed_f32_exact)} tokens/s`], ["Worth in bf16-exact", `${count(node.speed_bf16_exact)} tokens/s`],
      ["Upload", node.upload_kib_per_s === null ? "not measured" : `${bytes(node.upload_kib_per_s * 1024)}/s`],
      ["Round trip", node.rtt_ms === null ? "not measured" : `${count(node.rtt_ms)} ms`],
      ["Step of its window", status ? count(status.step) : "–"], ["Loss there", decimals(status?.loss, 4)],
      ["Tokens a second", count(status?.tokens_per_second)], ["Sent", bytes(status?.sent_bytes)], ["Received", bytes(status?.received_bytes)],
      ["Contributions", count(node.contributions)], ["In finished rounds", count(node.rounds)], ["Tokens", count(node.tokens)],
      ["Missed", `${count(node.missed)}${reliable > 0 ? ` (${percent(node.missed / reliable)})` : ""}`],
      ["Aggregations", count(node.aggregations)], ["Shards evaluated", count(node.shards)], ["Faults", count(node.faults)],
      ["Windows verified", count(node.verified)], ["Verified for others", count(node.verifications)], ["Convictions", count(node.convictions)],
      ["Checks", h("a", { href: href("trust", { q: node.id }) }, "of its work, and by it")],
    ]);
  }
  return { element, update, close: store.watchNodes() };
}
