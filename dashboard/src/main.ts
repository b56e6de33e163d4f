// The frame around the pages: where one is, where one can go, whether what is shown is live.

import { h, mark, say } from "./dom.ts";
import { askForKey } from "./key.ts";
import { pages, type Page, type View } from "./pages.ts";
import { href, parse } from "./route.ts";
import { Store } from "./store.ts";

const store = new Store();
const title = h("h1", { tabindex: -1 });
const content = h("div", { class: "content" });
const status = h("p", { class: "status", role: "status" });
const again = h("button", { type: "button", hidden: true, click: () => void reconnect() }, "Try now");
const links = pages.map((page) => h("a", { href: href(page.path) }, page.title));
const main = h("main", { id: "main" }, title, content);

document.body.replaceChildren(
  h("a", { class: "skip", href: "#main", click: (event: Event) => { event.preventDefault(); title.focus(); } }, "Skip to the page"),
  h("header", { class: "side" },
    h("p", { class: "brand" }, "Zoo"),
    h("nav", { "aria-label": "Pages" }, h("ul", {}, ...links.map((link) => h("li", {}, link)))),
    h("div", { class: "link" }, status, again)),
  main);

let open: { page: Page; view: View } | null = null;
let opened = false;

function show(): void {
  const { path, query } = parse(location.hash);
  const page = pages.find((page) => page.path === path) ?? pages[0]!;
  open?.view.close?.();
  const remember = (changes: Record<string, string | null>): void => {
    const now = parse(location.hash).query;
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") now.delete(name);
      else now.set(name, value);
    }
    history.replaceState(null, "", href(page.path, Object.fromEntries(now)));
  };
  const moved = open !== null && open.page !== page;
  const view = page.open({ store, query, remember });
  open = { page, view };
  say(title, page.title);
  document.title = `${page.title} · Zoo`;
  for (const [at, link] of links.entries()) mark(link, "aria-current", pages[at] === page ? "page" : null);
  content.replaceChildren(view.element);
  content.dataset.page = page.path || "overview";
  view.update();
  if (moved) {
    window.scrollTo(0, 0);
    title.focus({ preventScroll: true });
  }
}

async function reconnect(): Promise<void> {
  if (store.link !== "refused") store.retryNow();
  else if (await askForKey(store.trouble, "read")) store.start();
}

function state(): void {
  const words = { connecting: "Connecting", live: "Live", lost: "Not connected", refused: "A key is needed" }[store.link];
  say(status, store.link === "lost" ? `${words}: ${store.trouble}. It is tried again.` : words);
  mark(status, "data-link", store.link);
  again.hidden = store.link === "live" || store.link === "connecting";
  say(again, store.link === "refused" ? "Give a key" : "Try now");
  if (store.link === "refused" && !opened) {
    opened = true;
    void reconnect();
  }
}

store.subscribe(() => {
  state();
  open?.view.update();
});
window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => { if (!document.hidden && store.link === "lost") store.retryNow(); });
show();
state();
store.start();
// Times that pass are shown as they pass.
window.setInterval(() => { if (!document.hidden) store.tell(); }, 1000);
