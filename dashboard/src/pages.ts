// Every page there is. A new one is a file in `pages/` and a line here.

import type { Store } from "./store.ts";
import { overview } from "./pages/overview.ts";
import { jobs } from "./pages/jobs.ts";
import { nodes } from "./pages/nodes.ts";
import { rounds } from "./pages/rounds.ts";
import { checkpoints } from "./pages/checkpoints.ts";
import { trust } from "./pages/trust.ts";
import { journal } from "./pages/journal.ts";
import { about } from "./pages/about.ts";

/** What a page is given. */
export interface Context {
  store: Store;
  /** What the address says after the `?`. */
  query: URLSearchParams;
  /** Changes the address without opening the page again; empty values are left out. */
  remember(changes: Record<string, string | null>): void;
}

/** A page that is open. */
export interface View {
  element: HTMLElement;
  /** Called after changes, at most four times a second. */
  update(): void;
  /** Called when another page opens. */
  close?(): void;
}

export interface Page { path: string; title: string; open(context: Context): View }

export const pages: Page[] = [
  { path: "", title: "Overview", open: overview },
  { path: "jobs", title: "Jobs", open: jobs },
  { path: "nodes", title: "Nodes", open: nodes },
  { path: "rounds", title: "Rounds", open: rounds },
  { path: "checkpoints", title: "Checkpoints", open: checkpoints },
  { path: "trust", title: "Trust", open: trust },
  { path: "journal", title: "Journal", open: journal },
  { path: "about", title: "About", open: about },
];
