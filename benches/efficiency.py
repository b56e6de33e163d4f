#!/usr/bin/env python3
"""How much of its nodes' speed a network makes use of: PNodes of one thread each against as many independent runs of
`zoo train`, beside each other, under the same limits of processor time.

    cargo build --release
    python3 benches/efficiency.py [--shares 1 1] [--max-upload KIB] [--rounds 6] [--inner-steps 30] [--pairs 1] [--json]

--shares 1 2 4 8 limits each process to its share of a processor, the largest share being one (Linux, root: cgroup v1 or v2).
Equal shares are not limited. The first round is left out of the comparison, and also told: in it the nodes fetch the data
and their shares are guessed from what they say of themselves. With --pairs the two are run in turns, each network between two
measurements of the runs alone, and the median of the ratios counts: the speed of a shared machine wanders.
"""
import argparse, json, pathlib, shutil, signal, statistics, subprocess, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--shares", type=int, nargs="+", default=[1, 1], help="of speed, one a node")
ap.add_argument("--max-upload", type=int, metavar="KIB", help="KiB a second that each node may send")
ap.add_argument("--rounds", type=int, default=6)
ap.add_argument("--inner-steps", type=int, default=30)
ap.add_argument("--pairs", type=int, default=1)
ap.add_argument("--preset", default="bench-m")
ap.add_argument("--profile", default="bf16-exact")
ap.add_argument("--data", type=pathlib.Path, required=True, help="a file of text")
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
ap.add_argument("--json", action="store_true")
a = ap.parse_args()
TRAINING = ["--preset", a.preset, "--data", str(a.data.resolve()), "--profile", a.profile, "--set", "evaluate_every=0"]


class Limit:
    """A control group that gives its processes a share of one processor."""

    def __init__(self, name, share):
        self.v1 = pathlib.Path("/sys/fs/cgroup/cpu")
        self.folder = (self.v1 if self.v1.is_dir() else pathlib.Path("/sys/fs/cgroup")) / f"zoo-efficiency-{name}"
        self.folder.mkdir(exist_ok=True)
        # Short periods, so that a node is slow and not now and then stopped.
        if self.v1.is_dir():
            (self.folder / "cpu.cfs_period_us").write_text("20000")
            (self.folder / "cpu.cfs_quota_us").write_text(str(int(20000 * share)))
        else:
            (self.folder / "cpu.max").write_text(f"{int(20000 * share)} 20000")

    def admit(self, pid):
        (self.folder / "cgroup.procs").write_text(str(pid))

    def remove(self):
        for _ in range(50):
            try:
                return self.folder.rmdir()
            except OSError:
                time.sleep(0.1)


def start(arguments, folder, log, limit):
    admit = None if limit is None else lambda: limit.admit("0")
    return subprocess.Popen([a.zoo, *arguments], cwd=folder, stdout=open(folder / log, "wb"), stderr=subprocess.STDOUT, preexec_fn=admit)


def events(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def alone(folder, limits):
    """Tokens a second of every run by itself, all at the same time; until the slowest is done the others go on."""
    steps = lambda share: str(max(10, 60 * share // max(a.shares)))
    runs = [start(["train", *TRAINING, "--steps", steps(share), "--threads", "1", "--set", "checkpoint_every=0", "--out", f"t{at}", "--json"],
                  folder, f"t{at}.jsonl", limits[at]) for at, share in enumerate(a.shares)]
    for run in runs:
        assert run.wait() == 0, "zoo train failed"
    return [events(folder / f"t{at}.jsonl")[-1]["tokens_per_s"] for at in range(len(runs))]


def together(folder, limits):
    """Tokens a second of a network, in all its rounds and without the first, and how long nodes trained of the rounds after it."""
    up = start(["up", "--dir", "o", "--listen", "127.0.0.1:0", "--json"], folder, "up.jsonl", None)
    ticket = folder / "o" / "ticket"
    while not ticket.exists():
        time.sleep(0.1)
    upload = ["--max-upload", str(a.max_upload)] if a.max_upload else []
    nodes = [start(["join", ticket.read_text().strip(), "--dir", f"n{at}", "--name", f"n{at}", "--threads", "1", "--json", *upload],
                   folder, f"n{at}.jsonl", limit) for at, limit in enumerate(limits)]
    while any(not any(event.get("event") == "connected" for event in events(folder / f"n{at}.jsonl")) for at in range(len(nodes))):
        time.sleep(0.2)
    submit = ["submit", "--network", ticket.read_text().strip(), *TRAINING, "--steps", str(a.rounds * a.inner_steps), "--wait", "--json"]
    for key, value in [("rounds.inner_steps", a.inner_steps), ("rounds.minimum_nodes", len(nodes)), ("training.update.type", "sparse")]:
        submit += ["--set", f"{key}={value}"]
    assert start(submit, folder, "submit.jsonl", None).wait() == 0, (folder / "submit.jsonl").read_text()
    for process in [*nodes, up]:
        process.send_signal(signal.SIGINT)
        process.wait()
    told = events(folder / "submit.jsonl")
    of = lambda name: [event for event in told if event["event"] == name]
    started, finished, contributed = of("round_started"), of("round_finished"), of("contribution_accepted")
    rate = lambda since_ms, tokens: (finished[-1]["tokens"] - tokens) / (finished[-1]["at_ms"] - since_ms) * 1000
    for begin, end in zip(started, finished):
        after = [round((event["at_ms"] - begin["at_ms"]) / 1000, 1) for event in contributed if event["round"] == begin["round"]]
        if not a.json:
            print(f"  round {begin['round'] + 1}: contributions after {after} s, finished after {(end['at_ms'] - begin['at_ms']) / 1000:.1f} s")
    return rate(started[0]["at_ms"], 0), rate(finished[0]["at_ms"], finished[0]["tokens"])


equal = len(set(a.shares)) == 1
limits = [None if equal else Limit(at, share / max(a.shares)) for at, share in enumerate(a.shares)]


def measured(what):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zoo-efficiency-"))
    try:
        return what(folder, limits)
    finally:
        shutil.rmtree(folder)


def show(pair):
    if not a.json:
        print("alone " + " + ".join(f"{speed:,.0f}" for speed in pair["alone"]) + f" = {sum(pair['alone']):,.0f} tokens/s")
        print(f"together {pair['later_rounds']:,.0f} tokens/s, {pair['efficiency']:.1%}; "
              f"with the first round {pair['all_rounds']:,.0f}, {pair['efficiency_all_rounds']:.1%}", flush=True)


pairs = []
try:
    before = measured(alone)
    for _ in range(a.pairs):
        all_rounds, later_rounds = measured(together)
        # One pair alone is as it always was; in turns, the runs before and after count.
        after = measured(alone) if a.pairs > 1 else before
        by_itself = [statistics.mean(speeds) for speeds in zip(before, after)]
        before = after
        pairs.append({"alone": by_itself, "all_rounds": all_rounds, "later_rounds": later_rounds,
                      "efficiency_all_rounds": all_rounds / sum(by_itself), "efficiency": later_rounds / sum(by_itself)})
        show(pairs[-1])
finally:
    for limit in filter(None, limits):
        limit.remove()
ratios = [pair["efficiency"] for pair in pairs]
if a.json:
    print(json.dumps({"pairs": pairs, "efficiency": statistics.median(ratios)}))
elif a.pairs > 1:
    print(f"median {statistics.median(ratios):.1%} of {', '.join(f'{ratio:.1%}' for ratio in ratios)}")
