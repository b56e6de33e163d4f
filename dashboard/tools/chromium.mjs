// Prints where a Chromium is for the end-to-end tests: ZOO_CHROMIUM, the machine's own, or one from the package registry, which is
// unpacked into target/chromium together with the libraries it needs (x86-64 Linux).

import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";

const PACKAGE = "@sparticuz/chromium";
const VERSION = "153.0.0";
const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

console.log(process.env.ZOO_CHROMIUM ?? onPath() ?? fetched(fileURLToPath(new URL("../../target/chromium/", import.meta.url))));

function onPath() {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find(isProgram);
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function fetched(folder) {
  const start = join(folder, VERSION, "chromium");
  if (existsSync(start)) return start;
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error("no Chromium is on PATH, and none can be fetched for this kind of machine\nhint: install one, or name it: ZOO_CHROMIUM=/path/to/chromium");
  }
  console.error(`no Chromium is on PATH: fetching ${PACKAGE} ${VERSION} (67 MB)`);
  rmSync(folder, { recursive: true, force: true });
  const home = join(folder, VERSION);
  mkdirSync(home, { recursive: true });
  writeFileSync(join(folder, "package.json"), "{}");
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--prefix", folder, `${PACKAGE}@${VERSION}`], { stdio: ["ignore", 2, 2] });
  const packed = (name) => brotliDecompressSync(readFileSync(join(folder, "node_modules", PACKAGE, "bin", `${name}.br`)));
  for (const name of ["al2023.tar", "fonts.tar", "swiftshader.tar"]) {
    execFileSync("tar", ["-x", "-C", home], { input: packed(name), stdio: ["pipe", 2, 2] });
  }
  const fonts = join(home, "fonts.conf");
  writeFileSync(fonts, readFileSync(fonts, "utf8").replaceAll("/opt/fonts", join(home, "fonts")));
  writeFileSync(join(home, "headless_shell"), packed("chromium"), { mode: 0o755 });
  // Last of all: what is there is complete.
  const script = '#!/bin/sh\nhere=$(dirname "$0")\nLD_LIBRARY_PATH="$here/lib:$LD_LIBRARY_PATH" FONTCONFIG_PATH="$here" exec "$here/headless_shell" "$@"\n';
  writeFileSync(start, script, { mode: 0o755 });
  return start;
}
