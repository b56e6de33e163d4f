#!/usr/bin/env python3
"""A pipeline over processes: what a barrier costs where nodes are apart, and what a node takes of memory.

    benches/pipeline.py TEXT [--zoo PATH] [--preset NAME] [--stages N] [--steps N] [--latencies 2 50] [--runs 3]
    benches/pipeline.py TEXT --memory MIB [--preset NAME] [--stages N] [--steps N] [--order stream] [--set KEY=VALUE]

Without `--memory`: every order of a table, in turns, so that what else the machine does falls on all alike; medians. Messages between stages are
held for the latency before they are sent; nodes compute on one thread each. With `--memory` every node is started under that limit of
its data segment (RLIMIT_DATA), and one run is made.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

WAYS = [("flush", 1), ("stream", 1), ("stream", 4), ("stream", 16)]


def run(args, order, ahead, latency, memory=None):
    zoo = str(args.zoo)
    base = [zoo, "pipeline", "run", "--preset", args.preset, "--set", "model.tied_embeddings=false", "--profile", "f32-exact",
            "--set", f"training.batch_sequences={args.sequences}", "--micro-batches", str(args.micro_batches), "--data", str(args.text),
            "--stages", str(args.stages), "--nodes", str(args.stages), "--steps", str(args.steps), "--order", order,
            "--ahead", str(ahead), "--latency", str(latency), *(word for value in args.set for word in ("--set", value)), "--json"]
    started = subprocess.Popen(base, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    first = json.loads(started.stdout.readline())
    limit = None if memory is None else lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory << 20, memory << 20))
    join = [zoo, "pipeline", "join", first["ticket"], "--threads", "1", "--json"]
    nodes = [subprocess.Popen([*join, "--name", f"node-{at}"], preexec_fn=limit, stdout=subprocess.DEVNULL)
             for at in range(args.stages)]
    last = [json.loads(line) for line in started.stdout][-1]
    for process in [started, *nodes]:
        process.wait()
    if last["event"] != "finished":
        sys.exit(f"the run did not finish: {last}")
    return {"parameters": first["parameters"], **last}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--zoo", type=Path, default=Path("target/release/zoo"))
    parser.add_argument("--preset", default="bench-s")
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--micro-batches", type=int, default=8)
    parser.add_argument("--latencies", type=int, nargs="+", default=[2, 50])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", type=int, help="MiB")
    parser.add_argument("--order", choices=["flush", "stream"], default="flush", help="with --memory: a stream keeps older weights as well")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the configuration")
    args = parser.parse_args()
    if args.memory is not None:
        done = run(args, args.order, 1, 0, args.memory)
        # Parameters, gradients and AdamW's two moments.
        done["state_mib"] = 16 * done["parameters"] / 2**20
        print(json.dumps(done))
        return
    for latency in args.latencies:
        found = {way: [] for way in WAYS}
        for _ in range(args.runs):
            for way in WAYS:
                found[way].append(run(args, *way, latency))
        for (order, ahead), runs in found.items():
            median = {key: statistics.median(one[key] for one in runs) for key in ["tokens_per_s", "bytes_per_token", "busiest"]}
            speeds = [round(one["tokens_per_s"]) for one in runs]
            print(json.dumps({"latency_ms": latency, "order": order, "ahead": ahead, **median, "runs": speeds,
                              "digests": len({one["digest"] for one in runs})}), flush=True)


if __name__ == "__main__":
    main()
