// Asks for a key. It stays in this tab and goes nowhere but to this orchestrator.

import { key } from "./api.ts";
import { fresh, h } from "./dom.ts";

/** Asks for a key that allows `scope`; false if nobody gives one. */
export function askForKey(why: string, scope: "read" | "manage"): Promise<boolean> {
  return new Promise((resolve) => {
    const title = fresh("dialog");
    const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
    let given = false;
    const form = h("form", {
      submit: (event: Event) => {
        event.preventDefault();
        key.set(input.value.trim());
        given = true;
        dialog.close();
      },
    },
      h("h2", { id: title }, "A key is needed"),
      h("p", {}, `${why}. On the orchestrator's machine, zoo keys create NAME --scope ${scope} makes one.`),
      h("label", { class: "field" }, "Key", input),
      h("p", { class: "quiet" }, "It is forgotten when this tab is closed."),
      h("div", { class: "buttons" },
        h("button", { type: "button", click: () => dialog.close() }, "Not now"), h("button", { class: "main" }, "Use this key")));
    const dialog = h("dialog", {
      "aria-labelledby": title,
      close: () => { dialog.remove(); resolve(given); },
    }, form);
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
