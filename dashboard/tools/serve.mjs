// Serves the dashboard without an orchestrator's binary:
//
//   node tools/serve.mjs --nodes 10000              a network that does not exist
//   node tools/serve.mjs --proxy 127.0.0.1:4080     a real orchestrator behind pages from this folder

import { createServer, request as ask } from "node:http";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Simulation } from "./simulate.mjs";

const assets = fileURLToPath(new URL("../../crates/api/assets/", import.meta.url));
const FILES = new Map([
  ["/", ["index.html", "text/html; charset=utf-8"]],
  ["/assets/dashboard.js", ["dashboard.js", "text/javascript; charset=utf-8"]],
  ["/assets/dashboard.css", ["dashboard.css", "text/css; charset=utf-8"]],
]);
/** The policy that crates/api/src/dashboard.rs sends. */
export const POLICY = readFileSync(fileURLToPath(new URL("../../crates/http/src/browsers.rs", import.meta.url)), "utf8")
  .match(/const OWN_FILES_ONLY: &str = "([^"]*)"/)[1].replaceAll(/\\\n\s*/g, "");

/** Serves on a free port of this machine, or on the one that is wanted. */
export async function serve({ port = 0, proxy = null, ...options } = {}) {
  const simulation = proxy === null ? new Simulation(options) : null;
  simulation?.run();
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = FILES.get(pathname);
    if (file !== undefined) {
      response.writeHead(200, { "content-type": file[1], "cache-control": "no-cache", "content-security-policy": POLICY, "x-content-type-options": "nosniff" });
      return response.end(readFileSync(assets + file[0]));
    }
    if (proxy !== null) return forward(proxy, request, response);
    if (!simulation.answer(request, response)) response.writeHead(404).end();
  });
  await new Promise((resolve) => { server.listen(port, "127.0.0.1", resolve); });
  return {
    url: `http://127.0.0.1:${server.address().port}`, simulation,
    async stop() {
      simulation?.stop();
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    },
  };
}

function forward(proxy, request, response) {
  const [host, port] = proxy.split(":");
  const onward = ask({ host, port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on("error", () => response.writeHead(502).end());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { port: { type: "string" }, proxy: { type: "string" }, nodes: { type: "string" }, private: { type: "boolean" } } });
  const { url } = await serve({ port: Number(values.port ?? 4099), proxy: values.proxy ?? null, nodes: Number(values.nodes ?? 10_000), isPrivate: values.private ?? false });
  console.log(url);
}
