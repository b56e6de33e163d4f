// Addresses: `#/nodes?sort=tokens`. What is after the hash never reaches a server, so a page of Zoo opens from any path.

export interface Route { path: string; query: URLSearchParams }

/** What the part of an address after `#` means. */
export function parse(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const at = text.indexOf("?");
  const [path, query] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  return { path: path.replace(/\/+$/, ""), query: new URLSearchParams(query) };
}

/** The address of a page. */
export function href(path: string, query: Record<string, string | null> = {}): string {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== "") kept.set(name, value);
  const text = kept.toString();
  return `#/${path}${text === "" ? "" : `?${text}`}`;
}
