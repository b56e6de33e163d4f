// The page of a node: asks it once a second what it does, and pauses or resumes it. Text is only ever set as text.

const LOOK_MS = 1000;
const STATES = {
  connecting: () => "Looking for the orchestrator.",
  waiting: () => "Connected. There is nothing to do for it right now.",
  working: (node) => KINDS[node.work?.kind]?.(node.work.round + 1) ?? "Working.",
  finishing: () => "Finishing what it has begun. Then it rests.",
  paused: () => "Paused. It rests until it is resumed, also after a restart.",
  resting: (node) => `Resting. It works from ${node.node.limits.hours ?? "now on"}.`,
};
const KINDS = {
  train: (round) => `Training in round ${count(round)}.`,
  aggregate: (round) => `Adding up round ${count(round)}.`,
  sum: (round) => `Adding up a part of round ${count(round)}.`,
  evaluate: (round) => `Evaluating round ${count(round)}.`,
  verify: (round) => `Training another node's window of round ${count(round)} again, to compare.`,
};
const CONTRIBUTION = { pending: "not known yet", accepted: "accepted", rejected: "left out" };
const CHECKPOINT = { pending: "not known yet", accepted: "confirmed", rejected: "differs" };

const at = (id) => document.getElementById(id);
const count = (value) => value.toLocaleString("en");

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit === 0 ? value : value.toFixed(2)} ${units[unit]}`;
}

function duration(seconds) {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (minutes < 1) return `${seconds} s`;
  if (hours < 1) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Sets the text of an element, and touches nothing if it is the same: screen readers stay quiet. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

/** Fills a list of names and figures; the names stay the same. */
function facts(list, pairs) {
  if (list.children.length === 0) {
    for (const [name] of pairs) {
      const pair = document.createElement("div");
      pair.append(element("dt", name), element("dd", ""));
      list.append(pair);
    }
  }
  pairs.forEach(([, figure], place) => say(list.children[place].lastChild, figure));
}

/** Fills `parent` anew if `rows` are others than before. */
const filled = new Map();
function fill(parent, rows, make) {
  const text = JSON.stringify(rows);
  if (filled.get(parent) === text) return;
  filled.set(parent, text);
  parent.replaceChildren(...rows.map(make));
}

let paused = false;
let asking = false;

function show(node) {
  const { work, done, traffic, keeping, contributions, checkpoints, profile, standing } = node;
  const limits = node.node.limits;
  paused = node.paused;
  document.title = `${node.node.name}: ${node.state}`;
  say(at("name"), node.node.name);
  say(at("key"), node.node.id);
  state(node.state, STATES[node.state]?.(node) ?? node.state);
  say(at("toggle"), paused ? "Resume" : "Pause");
  at("toggle").disabled = asking;

  const trains = work !== null && work.steps > 0;
  at("progress").hidden = !trains;
  at("progress").value = trains ? work.step / work.steps : 0;
  say(at("detail"), trains ? `Step ${count(work.step)} of ${count(work.steps)}, loss ${work.loss?.toFixed(3) ?? "–"}, ${count(work.tokens_per_second)} tokens a second` : "");

  say(at("since"), `Since it was started, ${duration(node.running_s)} ago.`);
  facts(at("done"), [
    ["Windows trained", count(done.windows)], ["Steps", count(done.steps)], ["Tokens", count(done.tokens)],
    ["Rounds added up", count(done.aggregations)], ["Parts added up for others", count(done.sums)], ["Shards evaluated", count(done.evaluations)], ["Windows of others verified", count(done.verifications)],
    ["Sent", bytes(traffic.sent_bytes)], ["Received", bytes(traffic.received_bytes)],
    ["Checkpoints kept", `${count(keeping.held)} of ${count(keeping.asked)} asked for`], ["Checkpoints stored elsewhere", count(done.stored)],
    ["Audits answered", count(done.audits_answered)],
  ]);
  facts(at("verdicts"), [
    ["Contributions accepted", count(contributions.accepted)], ["Contributions left out", count(contributions.rejected)], ["Contributions not known", count(contributions.pending)],
    ["Checkpoints confirmed", count(checkpoints.accepted)], ["Checkpoints that differ", count(checkpoints.rejected)], ["Checkpoints not known", count(checkpoints.pending)],
    ["Audits failed", count(done.audits_failed)], ["Work that failed", count(done.failures)], ["Of others, refused", count(done.refused_of_others)],
  ]);
  const { account, checked_now: checked, barred_through: barred } = standing ?? {};
  say(at("trusted"), verdict(standing));
  facts(at("standing"), [
    ["Windows verified", account && count(account.verified)], ["Being verified now", account && count(checked)], ["Found wrong", account && count(account.convictions)],
    ["Rounds it counted in", account && count(account.rounds)], ["Tokens that counted", account && count(account.tokens)], ["Rounds missed", account && count(account.missed)],
    ["Verified for others", account && count(account.verifications)], ["Faults", account && count(account.faults)], ["Kept out through round", barred == null ? account && "–" : count(barred + 1)],
  ].map(([name, figure]) => [name, figure ?? "not known yet"]));
  facts(at("limits"), [
    ["Threads", limits.threads === null ? `all${profile === null ? "" : ` (${count(profile.threads)})`}` : count(limits.threads)],
    ["Memory", limits.max_memory_mib === null ? "what is free" : bytes(limits.max_memory_mib * 2 ** 20)],
    ["Upload", limits.max_upload_kib_per_s === null ? "as fast as it goes" : `${bytes(limits.max_upload_kib_per_s * 1024)} a second`],
    ["Hours", limits.hours ?? "around the clock"],
  ]);
  fill(at("rounds"), node.rounds, (round) => {
    const row = document.createElement("tr");
    row.append(
      element("td", round.job.slice(0, 12)), element("td", count(round.round + 1), "right"), element("td", round.tokens > 0 ? count(round.tokens) : "–", "right"),
      element("td", round.loss?.toFixed(3) ?? "–", "right"), element("td", CONTRIBUTION[round.contribution] ?? "none"), element("td", CHECKPOINT[round.checkpoint] ?? "none"),
    );
    return row;
  });
  at("troubles-card").hidden = node.troubles.length === 0;
  fill(at("troubles"), node.troubles.map(({ seconds_ago, text }) => `${duration(seconds_ago)} ago: ${text}`), (text) => element("li", text));
  at("page").hidden = false;
}

function verdict(standing) {
  if (standing === null) return "The network has not said yet.";
  const { account, barred_through: barred } = standing;
  if (barred !== null) return `It has no part in the rounds through ${count(barred + 1)}: ${account.convictions > 0 ? "others who did its work again came to something else." : "it was at fault."}`;
  if (account.convictions > 0) return "Others who did its work again came to something else, some time ago. It takes part again.";
  if (account.verified > 0) return "Everything of its that others did again came to the same bits.";
  return "Nothing of its was done again by others so far.";
}

function state(word, sentence) {
  say(at("state"), word);
  at("state").dataset.kind = word;
  say(at("sentence"), sentence);
  // Aloud only what its owner waits for, not every round.
  say(at("spoken"), ["working", "waiting"].includes(word) ? "The node is at work." : sentence);
}

/** One request; what is wrong is an error for people. */
async function ask(path, options = {}) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.detail}: ${answer.hint}`);
  return answer;
}

at("toggle").addEventListener("click", async () => {
  asking = at("toggle").disabled = true;
  let failed = "";
  try {
    show(await ask(paused ? "/v1/node/resume" : "/v1/node/pause", { method: "POST", headers: { "X-Zoo-Page": "1" } }));
  } catch (cause) {
    failed = `It could not be done: ${cause.message}`;
  }
  say(at("alert"), failed);
  asking = at("toggle").disabled = false;
  at("toggle").focus();
});

/** Looks while somebody looks. */
for (;;) {
  if (document.hidden) await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
  try {
    show(await ask("/v1/node"));
  } catch {
    state("gone", "The node does not answer: it has left, or its page is elsewhere now.");
    at("toggle").disabled = true;
    at("page").hidden = false;
  }
  await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
}
