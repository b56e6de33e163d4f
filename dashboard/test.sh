#!/usr/bin/env bash
# Everything that is tested of the dashboard: types, committed output, units, and a real browser.
#
#   ZOO_BINARY=target/release/zoo dashboard/test.sh     the last also before a real orchestrator
#   ZOO_CHROMIUM=/usr/bin/chromium                      which browser; without it one is looked for, and fetched if there is none
#
# Screenshots and figures are left in dashboard/artefacts.
set -euo pipefail
[ -z "${ZOO_BINARY:-}" ] || ZOO_BINARY=$(realpath "$ZOO_BINARY")
cd "$(dirname "$0")"
[ -d node_modules ] || npm ci --no-audit --no-fund --silent
npm run --silent check
npm run --silent unit
ZOO_CHROMIUM=$(node tools/chromium.mjs)
export ZOO_CHROMIUM
if [ -n "${ZOO_BINARY:-}" ]; then
  export ZOO_BINARY
  npm run --silent end-to-end
else
  echo "ZOO_BINARY is not set: the test before a real orchestrator is left out" >&2
  npm run --silent simulated
fi
