#!/usr/bin/env python3
"""A network whose processes are killed at random moments, orchestrator included, and started again.

    cargo build --release
    python3 benches/churn.py [--seconds 600] [--nodes 4] [--seed 1] [--json]

Starts an orchestrator and PNodes on loopback, each a process, and submits a job of the smallest preset. Then, until the time
is over: after a random pause one process is killed with SIGKILL, and a moment later started again. Afterwards, from the journal:

  - after each kill, training went on (a contribution was accepted, or a round began or ended) within --patience seconds;
  - each node that was started again contributed in the first round that began after it was back, unless it was killed anew;
  - the journal replays to the root that the orchestrator wrote last.

Prints what was found, or one JSON object; exits with 1 if something does not hold.
"""
import argparse, json, pathlib, random, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--seconds", type=float, default=600, help="how long processes are killed")
ap.add_argument("--nodes", type=int, default=4)
ap.add_argument("--seed", type=int, default=1, help="of who is killed when")
ap.add_argument("--pause", type=float, nargs=2, default=[6, 12], metavar=("LEAST", "MOST"), help="between two kills, seconds")
ap.add_argument("--away", type=float, nargs=2, default=[0.1, 1.0], metavar=("LEAST", "MOST"), help="from a kill to the start, seconds")
ap.add_argument("--patience", type=float, default=5.0, help="training goes on within so many seconds")
ap.add_argument("--inner-steps", type=int, default=20)
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
ap.add_argument("--out", type=pathlib.Path, help="keep journal and logs in this new folder")
ap.add_argument("--json", action="store_true")
a = ap.parse_args()

PROGRESS = {"contribution_accepted", "round_started", "round_sealed", "round_finished", "evaluation_finished"}


class Process:
    """One of the network's processes, which can be killed and started again."""

    def __init__(self, name, arguments, folder):
        self.name, self.arguments, self.folder, self.child = name, arguments, folder, None

    def start(self):
        log = open(self.folder / f"{self.name}.log", "ab")
        out = open(self.folder / f"{self.name}.jsonl", "ab")
        self.child = subprocess.Popen([a.zoo, *self.arguments], cwd=self.folder, stdout=out, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def said(self, event):
        path = self.folder / f"{self.name}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(parsed, lines) if line.get("event") == event]

    def wait_for(self, event, count=1, patience=60):
        end = time.monotonic() + patience
        while len(self.said(event)) < count:
            assert time.monotonic() < end, f"{self.name} does not say {event}:\n" + (self.folder / f"{self.name}.log").read_text()
            assert self.child.poll() is None, f"{self.name} has ended:\n" + (self.folder / f"{self.name}.log").read_text()
            time.sleep(0.05)
        return self.said(event)[count - 1]


def parsed(line):
    """A killed process may leave half a line."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return {}


def zoo(folder, *arguments):
    ran = subprocess.run([a.zoo, *arguments], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, f"zoo {' '.join(arguments)}: {ran.stderr}"
    return [json.loads(line) for line in ran.stdout.splitlines()]


def write_text(path):
    words = "a rose is by any other name and the sea sings to all who listen".split()
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(words, k=12)) for _ in range(2000)))


def run(folder):
    """The network under fire. Returns the kills: when (ms since the epoch), whom."""
    write_text(folder / "text.txt")
    up = Process("orchestrator", ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--json"], folder)
    up.start()
    ticket = up.wait_for("listening")["ticket"]
    nodes = [Process(f"node-{i}", ["join", ticket, "--dir", f"node-{i}", "--name", f"node-{i}", "--threads", "1", "--json"], folder)
             for i in range(a.nodes)]
    for node in nodes:
        node.start()
    keys = {node.name: node.wait_for("ready")["node"] for node in nodes}
    for node in nodes:
        node.wait_for("connected")
    settings = ["training.batch_sequences=4", f"rounds.inner_steps={a.inner_steps}", f"rounds.minimum_nodes={max(1, a.nodes // 2)}",
                "training.update.type=sparse", "evaluate_every=1000000"]
    zoo(folder, "submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "10000000", "--network", ticket, "--json",
        *(word for setting in settings for word in ("--set", setting)))
    everybody, draw, kills = [up, *nodes], random.Random(a.seed), []
    end = time.monotonic() + a.seconds
    time.sleep(2)
    while time.monotonic() < end:
        victim = draw.choice(everybody)
        kills.append((time.time() * 1000, keys.get(victim.name, "orchestrator")))
        victim.kill()
        time.sleep(draw.uniform(*a.away))
        victim.start()
        time.sleep(draw.uniform(*a.pause))
    for process in reversed(everybody):
        process.kill()
    return kills


def judge(folder, kills):
    events = zoo(folder, "journal", "export", "orchestrator")
    progress = [event["at_ms"] for event in events if event["event"] in PROGRESS]
    failures, waits = [], []
    for at, whom in kills:
        wait = next((time_ms - at for time_ms in progress if time_ms > at), None)
        waits.append((wait, whom))
        if wait is None or wait > a.patience * 1000:
            failures.append(f"after {whom[:12]} was killed at {at:.0f}, training went on after {wait} ms")
    missed = returned = 0
    for at, whom in (kill for kill in kills if kill[1] != "orchestrator"):
        again = next((time_ms for time_ms, who in kills if who == whom and time_ms > at), float("inf"))
        outcome = next_round(events, whom, at, again)
        returned += outcome is not None
        if outcome is False:
            missed += 1
            failures.append(f"{whom[:12]}, killed at {at:.0f}, was back and did not contribute in the next round")
    [verified] = zoo(folder, "journal", "verify", "--dir", "orchestrator", "--json")
    replayed = zoo(folder, "journal", "replay", "orchestrator", "--json")[-1]
    if not (replayed["root_as_written"] and replayed["root"] == verified["root"]):
        failures.append(f"the journal replays to {replayed['root']}, verified is {verified['root']}")
    times = [wait for wait, _ in waits if wait is not None]
    of = lambda kind: [wait for wait, whom in waits if wait is not None and (whom == "orchestrator") == kind]
    return {
        "event": "churn", "seconds": a.seconds, "nodes": a.nodes, "seed": a.seed, "kills": len(kills),
        "orchestrator_kills": sum(whom == "orchestrator" for _, whom in kills),
        "rounds": sum(event["event"] == "round_finished" for event in events),
        "restarts": sum(event["event"] == "round_restarted" for event in events),
        "faults": sum(event["event"] == "fault" for event in events),
        "returned": returned, "returned_late": missed,
        "wait_ms": {"median": round(statistics.median(times)) if times else None, "most": round(max(times, default=0)),
                    "most_after_node": round(max(of(False), default=0)), "most_after_orchestrator": round(max(of(True), default=0))},
        "root": replayed["root"], "commands": replayed["commands"], "failures": failures,
    }


def next_round(events, whom, after, before):
    """Whether a node contributed in the first round that began once it was back; None if there was none."""
    back = next((event for event in events if event["event"] == "node_rejoined" and event["node"] == whom and after < event["at_ms"] < before), None)
    if back is None:
        return None
    rest = [event for event in events if event["sequence"] > back["sequence"] and event["at_ms"] < before]
    start = next((at for at, event in enumerate(rest) if event["event"] == "round_started"), None)
    if start is None:
        return None
    for event in rest:
        if event["event"] == "contribution_accepted" and event["node"] == whom:
            return True  # also in the round that it had left
        if event["event"] == "round_finished" and event["sequence"] > rest[start]["sequence"]:
            return False
    return None


if a.out:
    a.out.mkdir(parents=True)
folder = a.out or pathlib.Path(tempfile.mkdtemp(prefix="zoo-churn-"))
try:
    report = judge(folder, run(folder))
finally:
    if not a.out:
        shutil.rmtree(folder, ignore_errors=True)
if a.json:
    print(json.dumps(report))
else:
    print(f"{report['kills']} kills in {a.seconds:.0f} s, {report['orchestrator_kills']} of the orchestrator: {report['rounds']} rounds finished, "
          f"{report['restarts']} started again, {report['faults']} faults")
    print(f"training went on after {report['wait_ms']['median']} ms (median), {report['wait_ms']['most']} ms at most")
    print(f"{report['returned']} nodes came back and met a round, {report['returned_late']} without a part in it")
    print(f"{report['commands']} commands replay to the root {report['root']}")
    for failure in report["failures"]:
        print("FAILED:", failure)
sys.exit(bool(report["failures"]))
