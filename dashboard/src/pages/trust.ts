// Whose work was trained again, what came of it, and who was excluded, each down to the events that say so.

import { chip, fill, h, mark, say } from "../dom.ts";
import { clock, count, moment, plural } from "../format.ts";
import { accusation, unsettled, type Model } from "../model.ts";
import type { Context, View } from "../pages.ts";
import { choice, facts, field, nodeLink, Tile } from "../parts.ts";
import { href } from "../route.ts";
import { isDisputed, kindOf, standingOf, type Check, type Fault, type Verdict, type Word } from "../trust.ts";
import { Grid } from "../virtual.ts";

/** Events that are loaded beyond the one that an address names. */
const OLDER_MARGIN = 200;
/** Where fewer checks are known, older events are asked for once without being told to. */
const CHECKS_FEW = 100;
/** Verifiers that are listed of one check; of more, the latest. */
const VERDICTS_MAX = 100;

const SHOWN: [value: string, label: string][] = [
  ["all", "all"], ["open", "under way"], ["disputed", "disputed at some time"], ["equal", "equal"], ["different", "different"], ["unverified", "unverified"],
];
const WORDS: Record<Word, string> = {
  "at it": "trains it at the moment", released: "is no longer waited for", withheld: "cannot have what it started from", equal: "came to the same", different: "came to something else",
};

/** The checks that are wanted, in the order they are in. */
export function wantedChecks(checks: readonly Check[], show: string, text: string, model: Model): Check[] {
  const wanted = text.trim().toLowerCase();
  const of = (node: string): string => `${node} ${model.nameOf(node)}`;
  const isShown = (check: Check): boolean => show === "all" || (show === "open" ? check.end === null : show === "disputed" ? isDisputed(check) : check.end === show);
  const isFound = (check: Check): boolean => `${model.jobName(check.job)} ${[check.maker, ...check.verdicts.keys()].map(of).join(" ")}`.toLowerCase().includes(wanted);
  return checks.filter((check) => isShown(check) && (wanted === "" || isFound(check)));
}

/** What came of a check so far, in words. */
export function outcome(check: Check): string {
  const said = [...check.verdicts.values()];
  const told = (["equal", "different", "withheld", "at it", "released"] as const)
    .map((word) => [said.filter((verdict) => verdict.word === word).length, word] as const)
    .filter(([many]) => many > 0).map(([many, word]) => `${count(many)} ${word}`).join(", ");
  return check.why === null ? told : `${unsettled(check.why)}${told === "" ? "" : ` (${told})`}`;
}

/** What somebody chose to see more of, with a way back. */
class Panel {
  readonly name = h("h3", { tabindex: -1 });
  readonly list = h("dl", { class: "facts" });
  readonly element: HTMLElement;
  constructor(label: string, close: () => void, ...more: HTMLElement[]) {
    this.element = h("section", { class: "card panel", "aria-label": label, hidden: true },
      h("div", { class: "title" }, this.name, h("button", { type: "button", click: close }, "Close")), this.list, ...more);
  }
}

const event = (id: number): HTMLElement => h("a", { href: href("journal", { event: String(id) }) }, `event ${count(id)}`);
const mono = (text: string): HTMLElement => h("span", { class: "mono" }, text);
const chipIn = (cell: HTMLElement, word: string): void => { if (cell.textContent !== word) fill(cell, chip(word)); };
const titled = (cell: HTMLElement, text: string): void => { say(cell, text); mark(cell, "title", text); };

export function trust({ store, query, remember }: Context): View {
  const { model } = store;
  let show = SHOWN.some(([value]) => value === query.get("show")) ? query.get("show")! : "all";
  let text = query.get("q") ?? "";
  /** Numbers of the events that began what is chosen. */
  let [check, fault] = [query.get("check"), query.get("fault")];

  const line = h("p", { class: "quiet" });
  const older = h("button", { type: "button", click: () => void store.older() }, "Load older");
  const news = h("p", { class: "hidden", role: "status" });
  const tiles = {
    checks: new Tile("Trained again"), open: new Tile("Under way"), equal: new Tile("Equal"), different: new Tile("Different"), unverified: new Tile("Unverified"),
    convictions: new Tile("Convictions"),
  };
  const find = h("input", { type: "search", value: text, placeholder: "node, job, key", input: () => { text = find.value; keep(); } });
  const found = h("p", { class: "quiet" });
  const verdicts = h("ul", { class: "verdicts" });
  const checkPanel = new Panel("Check", () => chooseCheck(null), h("h4", {}, "Who trained it again"), verdicts);
  const faultPanel = new Panel("Exclusion", () => chooseFault(null));
  const checks = new Grid<Check>({
    label: "Checks, the newest first", rowHeight: 36, empty: "No window is like that.", id: (one) => String(one.first), choose: (one) => chooseCheck(one),
    columns: [
      { key: "at", label: "Time", width: "4.5rem", wide: true, cell: (cell, one) => say(cell, clock(one.began_ms)) },
      { key: "round", label: "Round", width: "3.5rem", cell: (cell, one) => say(cell, count(one.round)) },
      { key: "maker", label: "Whose window", width: "minmax(5rem, 1fr)", cell: (cell, one) => titled(cell, model.nameOf(one.maker)) },
      { key: "state", label: "State", width: "7.5rem", cell: (cell, one) => chipIn(cell, standingOf(one)) },
      { key: "what", label: "What came of it", width: "minmax(8rem, 2fr)", wide: true, cell: (cell, one) => titled(cell, outcome(one)) },
    ],
  });
  const faults = new Grid<Fault>({
    label: "Exclusions, the newest first", rowHeight: 36, empty: "Nobody was excluded.", id: (one) => String(one.id), choose: (one) => chooseFault(one),
    columns: [
      { key: "at", label: "Time", width: "4.5rem", wide: true, cell: (cell, one) => say(cell, clock(one.at_ms)) },
      { key: "round", label: "Round", width: "3.5rem", wide: true, cell: (cell, one) => say(cell, count(one.round)) },
      { key: "node", label: "Node", width: "minmax(5rem, 1fr)", cell: (cell, one) => titled(cell, model.nameOf(one.node)) },
      { key: "what", label: "What it did", width: "minmax(8rem, 3fr)", cell: (cell, one) => titled(cell, accusation(one.kind, model)) },
    ],
  });
  const element = h("div", {}, h("div", { class: "fields" }, line, older), news,
    h("dl", { class: "tiles" }, ...Object.values(tiles).map((tile) => tile.element)),
    h("h2", {}, "Checks"),
    h("div", { class: "fields" }, field("Show", choice(SHOWN, show, (value) => { show = value; keep(); })), field("Find", find), found),
    h("div", { class: "split" }, checks.element, checkPanel.element),
    h("h2", {}, "Exclusions"),
    h("div", { class: "split" }, faults.element, faultPanel.element));

  function keep(): void {
    remember({ show: show === "all" ? null : show, q: text, check, fault });
    update();
  }
  function chooseCheck(one: Check | null): void {
    check = one === null ? null : String(one.first);
    keep();
    (one === null ? checks.element.firstElementChild as HTMLElement : checkPanel.name).focus();
  }
  function chooseFault(one: Fault | null): void {
    fault = one === null ? null : String(one.id);
    keep();
    (one === null ? faults.element.firstElementChild as HTMLElement : faultPanel.name).focus();
  }

  function totals(): void {
    const { totals: of, underWay } = model.trust;
    let [verified, convictions, convicts] = [0, 0, 0];
    for (const node of model.nodes.values()) {
      verified += node.verified;
      convictions += node.convictions;
      convicts += Number(node.convictions > 0);
    }
    tiles.checks.set(count(of.checks), "windows");
    tiles.open.set(count(underWay), `${count([...model.trust.open()].filter((one) => standingOf(one) === "disputed").length)} disputed`);
    tiles.equal.set(count(of.equal), store.nodesListed ? `${count(verified)} since the beginning` : "");
    tiles.different.set(count(of.different), "the maker was convicted");
    tiles.unverified.set(count(of.unverified), "nobody was accused");
    tiles.convictions.set(count(of.convictions), store.nodesListed ? `${count(convictions)} ever, of ${plural(convicts, "node")}` : "");
  }

  function checkOf(id: string | null): Check | undefined {
    if (id === null) return undefined;
    const [number, { checks: known }] = [Number(id), model.trust];
    // Older events may have shown since that it began before.
    const tells = (one: Check): boolean => one.last === number || [...one.verdicts.values()].some((verdict) => verdict.event === number);
    return known.find((one) => one.first === number) ?? known.find(tells);
  }

  let [listed, shown, isAsked] = ["", [] as Check[], false];
  function update(): void {
    const { events, trust: known } = model;
    const first = events[0]?.id ?? model.next;
    say(line, first > 0 ? `Known from event ${count(first)} of ${count(model.next)} on.` : "Known from the first event on.");
    older.hidden = !store.hasOlder;
    totals();
    if (!isAsked && events.length > 0 && store.hasOlder) {
      isAsked = true;
      if (known.checks.length < CHECKS_FEW) void store.older();
    }
    const state = `${known.version} ${model.nodes.size} ${show} ${text}`;
    if (state !== listed) {
      listed = state;
      shown = wantedChecks(known.checks, show, text, model).reverse();
      checks.set(shown);
      faults.set([...known.faults].reverse());
      const last = known.faults.at(-1);
      say(news, last === undefined ? "" : `${model.nameOf(last.node)} is excluded: ${accusation(last.kind, model)}`);
    }
    say(found, `${plural(shown.length, "check")}${shown.length === known.checks.length ? "" : ` of ${count(known.checks.length)}`}.`);
    const wanted = Math.min(Number(check ?? Infinity), Number(fault ?? Infinity));
    // The address names an event from before those that are loaded.
    if (wanted < first && store.hasOlder) void store.older(first - wanted + OLDER_MARGIN);
    drawCheck(checkOf(check));
    drawFault(fault === null ? undefined : known.faults.find((one) => one.id === Number(fault)));
  }

  function drawCheck(one: Check | undefined): void {
    checks.chosen(one === undefined ? null : String(one.first));
    checkPanel.element.hidden = one === undefined;
    if (one === undefined) return;
    say(checkPanel.name, `Round ${one.round} of ${model.nameOf(one.maker)}`);
    facts(checkPanel.list, [
      ["Job", one.job], ["Job's name", h("a", { href: href("", { job: one.job }) }, model.jobName(one.job))],
      ["Round", h("a", { href: href("rounds", { job: one.job, round: String(one.round) }) }, count(one.round))],
      ["Whose window", nodeLink(model, one.maker)], ["State", standingOf(one)],
      ...(one.why === null ? [] : [["Why", unsettled(one.why)] as [string, string]]),
      ["Committed to", one.committed === null ? "nobody has told yet" : mono(one.committed)],
      ["What comes of it", one.right === null ? "not settled" : mono(one.right)],
      ["Began", moment(one.began_ms)], ["Began with", event(one.first)],
      ["Ended", one.ended_ms === null ? "–" : moment(one.ended_ms)], ["Ended with", one.last === null ? "–" : event(one.last)],
    ]);
    const said = [...one.verdicts.values()].slice(-VERDICTS_MAX);
    const state = JSON.stringify([one.first, said, said.map((verdict) => model.nameOf(verdict.verifier))]);
    if (verdicts.dataset.shown === state) return;
    verdicts.dataset.shown = state;
    fill(verdicts, ...said.map(verdictItem), said.length === 0 && h("li", { class: "quiet" }, "nobody"));
  }
  function verdictItem(verdict: Verdict): HTMLElement {
    const { verifier, word, digest, isVoid, convicted } = verdict;
    return h("li", {}, nodeLink(model, verifier), chip(word), event(verdict.event),
      digest === null ? h("span", { class: "quiet" }, WORDS[word]) : mono(digest),
      convicted !== null && h("span", { class: "quiet" }, "It was convicted of that: ", event(convicted)),
      isVoid && h("span", { class: "quiet" }, "It was convicted of something else, so this does not count."));
  }

  function drawFault(one: Fault | undefined): void {
    faults.chosen(one === undefined ? null : String(one.id));
    faultPanel.element.hidden = one === undefined;
    if (one === undefined) return;
    const [kind, it] = kindOf(one.kind);
    const isConviction = kind === "WrongWindow" || kind === "WrongVerdict";
    say(faultPanel.name, model.nameOf(one.node));
    facts(faultPanel.list, [
      ["Key", one.node], ["Node", nodeLink(model, one.node)], ["When", moment(one.at_ms)],
      ["What it did", accusation(one.kind, model)],
      ["What follows", isConviction ? "quarantine, each time for twice as many rounds; what it gave to the round is not used" : "it has no part in this round and the next"],
      ["Job", h("a", { href: href("", { job: one.job }) }, model.jobName(one.job))],
      ["Round", h("a", { href: href("rounds", { job: one.job, round: String(one.round) }) }, count(one.round))],
      ...Object.entries(it).filter(([name]) => name in EVIDENCE).map(([name, value]) => [EVIDENCE[name]!, evidence(value)] as [string, string | Node]),
      ["In the journal", event(one.id)],
      ["Check", one.check === null ? "–" : checkLink(one.check)],
    ]);
  }
  function evidence(value: unknown): string | Node {
    const named = Array.isArray(value) ? value.slice(0, VERDICTS_MAX) : null;
    if (named !== null) return h("span", { class: "names" }, ...named.map((node) => nodeLink(model, String(node))));
    if (typeof value !== "string") return count(value as number);
    return model.nodes.has(value) ? nodeLink(model, value) : mono(value);
  }
  const checkLink = (of: Check): HTMLElement => h("button", { type: "button", click: () => chooseCheck(of) }, `Round ${of.round} of ${model.nameOf(of.maker)}`);
  return { element, update };
}

/** What a fault's fields are called. */
const EVIDENCE: Record<string, string> = {
  window: "Round of the window", maker: "Whose window", committed: "Committed to", said: "It said", right: "What comes of it", verifiers: "Who came to that",
  reported: "Reported", agreed: "Most reported", vnode: "VNode", bytes: "Bytes", limit: "At most",
};
