#!/usr/bin/env python3
"""What floods cost the honest: tokens a second of a network, and the orchestrator's memory, CPU and journal, under each attack.

    cargo build --release && cargo build --release -p zoo-network --example flood
    python3 benches/flood.py [--pairs 3] [--seconds 20] [--nodes 3] [--modes connections,malformed,slow,joins,accusations] [--json]

Starts an orchestrator and PNodes on loopback, each a process, and submits a job of the smallest preset on a small text. Then, for every mode
and pair: the attacker (`crates/network/examples/flood.rs`, nice 19) runs for --seconds; and a busy loop, also nice 19, takes the same share of a
core for as long. Both take turns in being first. What is compared is what nodes contributed in the one and in the other, since the attacker's own
work is no part of the attack when everybody shares a machine. With --sources the attacker calls from so many addresses of 127.0.0.0/8;
0 is from the address of the nodes themselves.

Prints medians, or one JSON object.
"""
import argparse, json, os, pathlib, random, re, shutil, statistics, subprocess, sys, tempfile, threading, time

HERE = pathlib.Path(__file__).resolve().parent
RELEASE = HERE.parent / "target" / "release"
MODES = ["connections", "malformed", "slow", "joins", "accusations"]
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--pairs", type=int, default=3)
ap.add_argument("--seconds", type=float, default=20, help="of each attack, and of each control")
ap.add_argument("--rest", type=float, default=4, help="between two of them, seconds")
ap.add_argument("--nodes", type=int, default=3)
ap.add_argument("--sources", type=int, default=8, help="addresses that the attacker calls from")
ap.add_argument("--modes", default=",".join(MODES))
ap.add_argument("--inner-steps", type=int, default=4)
ap.add_argument("--zoo", default=str(RELEASE / "zoo"))
ap.add_argument("--flood", default=str(RELEASE / "examples" / "flood"))
ap.add_argument("--json", action="store_true")
a = ap.parse_args()
TICK = os.sysconf("SC_CLK_TCK")
BUSY = """
import sys, time
share, end = float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.02 * share and time.monotonic() < end: pass
    time.sleep(max(0.0, min(0.02 - (time.monotonic() - began), end - time.monotonic())))
"""


class Process:
    def __init__(self, name, arguments, folder):
        self.name, self.lines, self.folder = name, folder / f"{name}.jsonl", folder
        log, out = open(folder / f"{name}.log", "wb"), open(self.lines, "wb")
        self.child = subprocess.Popen([a.zoo, *arguments], cwd=folder, stdout=out, stderr=log, stdin=subprocess.DEVNULL)

    def wait_for(self, event, patience=120):
        end = time.monotonic() + patience
        while True:
            for line in self.lines.read_text().splitlines():
                said = json.loads(line)
                if said.get("event") == event:
                    return said
            ended = self.child.poll() is not None or time.monotonic() > end
            assert not ended, f"{self.name} does not say {event}:\n" + (self.folder / f"{self.name}.log").read_text()[-4000:]
            time.sleep(0.05)

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss_mib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.child.pid}/status").read_text())[1]) / 1024


def zoo(folder, *arguments):
    ran = subprocess.run([a.zoo, *arguments], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, f"zoo {' '.join(arguments)}: {ran.stderr}"
    return [json.loads(line) for line in ran.stdout.splitlines()]


def write_text(path):
    words = "a rose is by any other name and the sea sings to all who listen".split()
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(words, k=12)) for _ in range(2000)))


def start(folder):
    write_text(folder / "text.txt")
    up = Process("orchestrator", ["up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"], folder)
    said = up.wait_for("listening")
    nodes = [Process(f"node-{i}", ["join", said["ticket"], "--dir", f"node-{i}", "--name", f"node-{i}", "--threads", "1", "--json", "--no-page"], folder)
             for i in range(a.nodes)]
    keys = {node.wait_for("ready")["node"] for node in nodes}
    for node in nodes:
        node.wait_for("connected")
    settings = ["training.batch_sequences=4", f"rounds.inner_steps={a.inner_steps}", "rounds.deadline_s=120", "training.update.type=sparse",
                "evaluate_every=1000000", f"rounds.minimum_nodes={max(1, a.nodes - 1)}"]
    zoo(folder, "submit", "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", "10000000", "--network", said["ticket"], "--json",
        *(word for setting in settings for word in ("--set", setting)))
    return up, nodes, keys, said


def journal_bytes(folder):
    return sum(path.stat().st_size for path in (folder / "orchestrator").glob("journal*"))


def phase(folder, up, command):
    """Runs `command` at the lowest priority. What happened meanwhile."""
    size, cpu, peak, over = journal_bytes(folder), up.cpu_s(), [up.rss_mib()], threading.Event()

    def look():
        while not over.wait(0.5):
            peak[0] = max(peak[0], up.rss_mib())

    looking = threading.Thread(target=look)
    looking.start()
    began_ms = time.time() * 1000
    child = subprocess.Popen(["nice", "-n", "19", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = child.stdout.read()
    _, _, used = os.wait4(child.pid, 0)
    ended_ms = time.time() * 1000
    over.set()
    looking.join()
    seconds = (ended_ms - began_ms) / 1000
    return {"began_ms": began_ms, "ended_ms": ended_ms, "said": json.loads(said) if said.strip() else None, "cpu": (used.ru_utime + used.ru_stime) / seconds,
            "orchestrator_cpu": (up.cpu_s() - cpu) / seconds, "rss_mib": peak[0], "journal_kib_per_s": (journal_bytes(folder) - size) / 1024 / seconds}


def run(folder):
    up, nodes, keys, said = start(folder)
    try:
        time.sleep(10)
        idle_rss = up.rss_mib()
        blobs = [path for path in (folder / "orchestrator" / "blobs").rglob("*") if path.is_file() and re.fullmatch("[0-9a-f]{60,64}", path.name)]
        largest = max(blobs, key=lambda path: path.stat().st_size)
        digest = largest.name if len(largest.name) == 64 else largest.parent.name + largest.name
        http = said.get("http", "").removeprefix("http://").rstrip("/")
        phases, share = [], 0.5
        for mode in a.modes.split(","):
            for pair in range(a.pairs):
                for what in ["attack", "control"] if pair % 2 == 0 else ["control", "attack"]:
                    if what == "attack":
                        command = [a.flood, said["ticket"], mode, "--seconds", str(int(a.seconds)), "--sources", str(a.sources), "--blob", digest]
                        command += ["--http", http] if http else []
                    else:
                        command = [sys.executable, "-c", BUSY, str(share), str(a.seconds)]
                    done = phase(folder, up, command)
                    share = done["cpu"] if what == "attack" else share
                    phases.append({"mode": mode, "pair": pair, "what": what, **done})
                    time.sleep(a.rest)
        return keys, phases, idle_rss
    finally:
        for process in [*nodes, up]:
            process.child.kill()
            process.child.wait()


def judge(folder, keys, phases, idle_rss):
    events = zoo(folder, "journal", "export", "orchestrator")
    given = [(event["at_ms"], event["tokens"]) for event in events if event["event"] == "contribution_accepted" and event["node"] in keys]
    for it in phases:
        tokens = sum(tokens for at, tokens in given if it["began_ms"] <= at < it["ended_ms"])
        it["tokens_per_s"] = tokens / (it["ended_ms"] - it["began_ms"]) * 1000
    rows = []
    for mode in a.modes.split(","):
        of = lambda what: sorted((it for it in phases if (it["mode"], it["what"]) == (mode, what)), key=lambda it: it["pair"])
        attacks, controls = of("attack"), of("control")
        median = lambda its, key: statistics.median(it[key] for it in its)
        rows.append({
            "mode": mode, "kept": statistics.median(x["tokens_per_s"] / max(1e-9, y["tokens_per_s"]) for x, y in zip(attacks, controls)),
            "tokens_per_s": median(attacks, "tokens_per_s"), "tokens_per_s_control": median(controls, "tokens_per_s"),
            "attacker_cpu": median(attacks, "cpu"), "orchestrator_cpu": median(attacks, "orchestrator_cpu"),
            "orchestrator_cpu_control": median(controls, "orchestrator_cpu"), "rss_mib": max(it["rss_mib"] for it in attacks),
            "journal_kib_per_s": median(attacks, "journal_kib_per_s"), "journal_kib_per_s_control": median(controls, "journal_kib_per_s"),
            "tried": sum(it["said"]["tried"] for it in attacks), "let_in": sum(it["said"]["let_in"] for it in attacks), "sent": sum(it["said"]["sent"] for it in attacks),
        })
    return {"event": "flood", "nodes": a.nodes, "pairs": a.pairs, "seconds": a.seconds, "sources": a.sources, "rss_mib_before": idle_rss,
            "rounds": sum(event["event"] == "round_finished" for event in events), "restarts": sum(event["event"] == "round_restarted" for event in events),
            "modes": rows}


folder = pathlib.Path(tempfile.mkdtemp(prefix="zoo-flood-"))
try:
    report = judge(folder, *run(folder))
finally:
    shutil.rmtree(folder, ignore_errors=True)
if a.json:
    print(json.dumps(report))
else:
    print(f"{report['rounds']} rounds, {report['restarts']} started again; the orchestrator has {report['rss_mib_before']:.0f} MiB before")
    print("attack       kept   tokens/s (control)   orchestrator: CPU (control)   RSS MiB   journal KiB/s (control)   attacker: CPU   tried / let in / sent")
    for row in report["modes"]:
        print(f"{row['mode']:12} {row['kept']:5.0%} {row['tokens_per_s']:9.0f} ({row['tokens_per_s_control']:.0f})"
              f" {row['orchestrator_cpu']:18.0%} ({row['orchestrator_cpu_control']:.0%}) {row['rss_mib']:14.0f}"
              f" {row['journal_kib_per_s']:12.1f} ({row['journal_kib_per_s_control']:.1f}) {row['attacker_cpu']:19.0%}"
              f" {row['tried']:10} / {row['let_in']} / {row['sent']}")
