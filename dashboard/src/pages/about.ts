// What serves this page, and where to read on.

import { ask, key } from "../api.ts";
import { h } from "../dom.ts";
import { count } from "../format.ts";
import { askForKey } from "../key.ts";
import type { Context, View } from "../pages.ts";
import { facts } from "../parts.ts";

export function about({ store }: Context): View {
  let health: { status: string; version: string } | null = null;
  const list = h("dl", { class: "facts" });
  const forget = h("button", { type: "button", click: () => { key.forget(); store.start(); } }, "Forget the key");
  const give = h("button", { type: "button", click: async () => { if (await askForKey("What changes something needs one", "manage")) store.start(); } }, "Give a key");
  const link = (path: string, what: string): HTMLElement => h("li", {}, h("a", { href: path }, path), ` ${what}`);
  const element = h("div", {},
    h("section", { class: "card" }, h("h3", {}, "Zoo"),
      h("p", {}, "One open language model, trained, checked and served by machines that nobody has to trust. This page is served by the orchestrator and asks no other host for anything."), list),
    h("section", { class: "card" }, h("h3", {}, "The interface"), h("ul", { class: "plain" },
      link("/reference", "lists every operation"), link("/openapi.json", "describes them for programs"),
      link("/metrics", "are figures for Prometheus"), link("/health", "says whether the orchestrator works"))),
    h("section", { class: "card" }, h("h3", {}, "Your key"),
      h("p", {}, "Looking needs none, unless the orchestrator is private. A key stays in this tab."), h("div", { class: "buttons" }, give, forget)));
  async function load(): Promise<void> {
    try {
      health = await ask("/health");
      store.journal = await ask("/v1/journal");
      store.tell();
    } catch {
      // The line of state says that nobody answers.
    }
  }
  void load();
  function update(): void {
    forget.hidden = key.get() === null;
    facts(list, [
      ["Version", health?.version ?? "–"], ["Health", health?.status ?? "–"],
      ["Commands in the journal", count(store.journal?.commands)], ["Events", count(store.model.next)],
      ["Root of the state when this page was opened", store.journal?.root ?? "–"],
    ]);
  }
  return { element, update };
}
