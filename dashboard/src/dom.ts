// Elements, made so that text stays text: nothing here, or anywhere in this folder, reads HTML from a string.

export type Child = Node | string | number | null | undefined | false;
type Handler = (event: any) => void;
export type Attributes = Record<string, string | number | boolean | null | undefined | Handler>;

const SVG = "http://www.w3.org/2000/svg";

function furnish(element: Element, attributes: Attributes, children: Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
}

/** Appends what there is of `children`; strings become text nodes. */
export function append(parent: Element, children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/** An HTML element. Attributes that are functions are listeners of the event of that name. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name);
  furnish(element, attributes, children);
  return element;
}

/** An SVG element. */
export function s(name: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS(SVG, name) as SVGElement;
  furnish(element, attributes, children);
  return element;
}

/** Sets the text of an element, and touches nothing if it is the same: screen readers and layout stay quiet. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute likewise. */
export function mark(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Replaces what is in an element. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  append(element, children);
}

let made = 0;
/** A name for an element that labels or describes another. */
export function fresh(prefix: string): string {
  made += 1;
  return `${prefix}-${made}`;
}

/** A word of state, told apart by its shape as well as by its colour. */
export function chip(word: string, kind = word): HTMLElement {
  return h("span", { class: "chip", "data-kind": kind.replaceAll(" ", "_") }, word);
}
