// Figures for people: short, with their unit, in columns that line up.

const NONE = "–";
type Figure = number | null | undefined;

const isFigure = (value: Figure): value is number => typeof value === "number" && Number.isFinite(value);

/** A figure with a fixed number of decimals. */
export function decimals(value: Figure, places: number): string {
  return isFigure(value) ? value.toFixed(places) : NONE;
}

/** A count with groups of three: 12,345. */
export function count(value: Figure): string {
  return isFigure(value) ? Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",") : NONE;
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let [at, left] = [0, Math.abs(value)];
  while (left >= base && at < units.length - 1) {
    left /= base;
    at += 1;
  }
  // What rounds up to the next unit is written in it.
  if (at < units.length - 1 && left >= base - 0.5) [left, at] = [left / base, at + 1];
  const places = at === 0 || left >= 100 ? 0 : left >= 10 ? 1 : 2;
  return `${value < 0 ? "-" : ""}${left.toFixed(places)}${units[at]}`;
}

/** A large count in three digits: 1.23M. */
export function short(value: Figure): string {
  return isFigure(value) ? scaled(value, 1000, ["", "k", "M", "G", "T", "P"]) : NONE;
}

/** Bytes: 1.50 MiB. */
export function bytes(value: Figure): string {
  return isFigure(value) ? scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]) : NONE;
}

/** A share of one: 42%. */
export function percent(share: Figure): string {
  return isFigure(share) ? `${Math.round(share * 100)}%` : NONE;
}

/** A time span in its two largest units: 1 h 05 min. */
export function duration(ms: Figure): string {
  if (!isFigure(ms) || ms < 0) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const pad = (value: number): string => String(value).padStart(2, "0");
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours < 1) return `${minutes} min ${pad(seconds % 60)} s`;
  if (hours < 48) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A time of this machine's day, to the second. */
export function clock(ms: Figure): string {
  if (!isFigure(ms)) return NONE;
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** A date and a time. */
export function moment(ms: Figure): string {
  if (!isFigure(ms)) return NONE;
  const at = new Date(ms);
  const pad = (value: number): string => String(value).padStart(2, "0");
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock(ms)}`;
}

/** How a digest or key begins. */
export function brief(id: string | null | undefined): string {
  return id ? id.slice(0, 12) : NONE;
}

/** `one` or `many` of something. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A name in snake case, as words. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
