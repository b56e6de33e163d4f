// Makes the dashboard's three files. `node build.mjs --check` fails if they are not those that are committed.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const assets = "../crates/api/assets/";
/** No way from text to HTML or code may be in what is served. */
const FORBIDDEN = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "http://", "https://"];
const ALLOWED = "http://www.w3.org/2000/svg";

const bundled = await build({
  entryPoints: [here("src/main.ts"), here("src/style.css")], outdir: here(".out"), write: false,
  bundle: true, minify: true, format: "esm", target: "es2022", legalComments: "none", charset: "utf8",
}).catch(() => process.exit(1));

const made = new Map();
let index = readFileSync(here("src/index.html"), "utf8");
for (const file of bundled.outputFiles) {
  const name = file.path.endsWith(".js") ? "dashboard.js" : "dashboard.css";
  made.set(name, file.text);
  // The page names what it wants by its content: a browser keeps it for as long as it likes.
  const version = createHash("sha256").update(file.text).digest("hex").slice(0, 16);
  index = index.replace(`/assets/${name}`, `/assets/${name}?v=${version}`);
}
made.set("index.html", index);

const script = made.get("dashboard.js").replaceAll(ALLOWED, "");
for (const word of FORBIDDEN) {
  if (script.includes(word)) throw new Error(`dashboard.js contains ${word}; hint: text is set as text (src/dom.ts)`);
}

const isCheck = process.argv.includes("--check");
mkdirSync(here(assets), { recursive: true });
let differs = false;
for (const [name, text] of made) {
  const path = here(assets + name);
  let committed = null;
  try { committed = readFileSync(path, "utf8"); } catch { /* it was not made yet */ }
  if (committed === text) continue;
  differs = true;
  if (isCheck) console.error(`crates/api/assets/${name} is not what its sources make; hint: npm run build`);
  else writeFileSync(path, text);
}
if (isCheck && differs) process.exit(1);
console.log([...made].map(([name, text]) => `${name} ${Buffer.byteLength(text)} bytes`).join(", "));
