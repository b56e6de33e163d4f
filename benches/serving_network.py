#!/usr/bin/env python3
"""Serving through several processes against one: texts a second and tokens a second, with and without latency between them.

    cargo build --release
    python3 benches/serving_network.py MODEL [--nodes 3] [--streams 16] [--tokens 128] [--latencies 0 20] [--runs 3] [--kill] [--json]

Every run is a server and its nodes, fresh, on one thread each; the runs of the rows are done in turns, and the medians count. All
texts of all runs are compared. With --kill one node is killed in the middle of each run of the rows with nodes and another takes its
part; what the longest gap of a stream was is told.
"""
import argparse, json, pathlib, queue, statistics, subprocess, tempfile, threading, time, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("model", help="an exported model, or the folder of a run")
ap.add_argument("--nodes", type=int, default=3)
ap.add_argument("--streams", type=int, default=16)
ap.add_argument("--tokens", type=int, default=128)
ap.add_argument("--latencies", type=int, nargs="+", default=[0, 20], metavar="MS")
ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--kill", action="store_true")
ap.add_argument("--json", action="store_true")
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
a = ap.parse_args()


class Process:
    """zoo, and the events that it prints."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen([a.zoo, *arguments, "--json"], stdout=subprocess.PIPE, text=True)
        self.events = queue.Queue()
        threading.Thread(target=lambda: [self.events.put(json.loads(line)) for line in self.process.stdout], daemon=True).start()

    def event(self, name):
        while True:
            event = self.events.get(timeout=120)
            if event["event"] == name:
                return event

    def kill(self):
        self.process.kill()
        self.process.wait()


def stream(address, number, texts, gaps):
    body = {"prompt": f"{'To be, or not to be. ' * 4}{number}", "max_tokens": a.tokens, "seed": number, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(f"http://{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    text, last, longest = "", time.monotonic(), 0.0
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            line = line.decode()
            if not line.startswith("data: {"):
                continue
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            for choice in json.loads(line[6:]).get("choices", []):
                text += choice.get("text", "")
    texts[number], gaps[number] = text, longest


def run(nodes, latency):
    """Tokens a second, all texts, and the longest gap of a stream."""
    through = [] if nodes == 0 else ["--network", str(nodes), "--latency", str(latency), "--patience", "1"]
    server = Process("serve", a.model, "--listen", "127.0.0.1:0", "--threads", "1", *through)
    joined = []
    try:
        address = server.event("listening")["address"]
        if nodes:
            ticket = server.event("waiting")["ticket"]
            joined = [Process("pipeline", "join", ticket, "--threads", "1", "--name", f"node{at}") for at in range(nodes)]
            server.event("begun")
        texts, gaps = {}, {}
        clients = [threading.Thread(target=stream, args=(address, number, texts, gaps)) for number in range(a.streams)]
        begun = time.monotonic()
        [client.start() for client in clients]
        if a.kill and nodes > 1:
            time.sleep(1.5)
            joined[1].kill()
        [client.join() for client in clients]
        seconds = time.monotonic() - begun
        assert len(texts) == a.streams, "a stream was lost"
        return a.streams * a.tokens / seconds, texts, max(gaps.values())
    finally:
        for process in [server, *joined]:
            process.kill()


rows = [(0, 0)] + [(nodes, latency) for latency in a.latencies for nodes in sorted({1, a.nodes})]
speeds, gaps, expected = {row: [] for row in rows}, {row: [] for row in rows}, None
for _ in range(a.runs):
    for row in rows:
        speed, texts, gap = run(*row)
        expected = expected or texts
        assert texts == expected, f"texts differ: {row}"
        speeds[row].append(speed)
        gaps[row].append(gap)
one = statistics.median(speeds[rows[0]])
for row in rows:
    nodes, latency = row
    speed, gap = statistics.median(speeds[row]), max(gaps[row])
    what = "one server" if nodes == 0 else f"{nodes} node{'s' * (nodes > 1)}, {latency} ms"
    if a.json:
        print(json.dumps({"nodes": nodes, "latency_ms": latency, "tokens_per_s": speed, "of_one": speed / one, "longest_gap_s": gap}))
    else:
        print(f"{what:>16}  {speed:8,.0f} tokens/s  {speed / one:5.2f} of one server  longest gap {gap:.2f} s")
