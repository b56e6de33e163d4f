#!/usr/bin/env python3
"""Runs `zoo bench step` and PyTorch's step in alternation and prints medians and ratios.

    cargo build --release
    python -m venv .venv && .venv/bin/pip install torch numpy
    .venv/bin/python benches/peers/compare_step.py [--pairs 5] [--configs S M L] [--threads 1 2] [--compile] [--bf16]

Whole processes, one after the other, so that both meet the same machine. Ratios are taken pair by
pair; their median is what counts, because the speed of a machine drifts.
"""
import argparse, json, pathlib, statistics, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--pairs", type=int, default=5)
ap.add_argument("--configs", nargs="+", default=["S", "M", "L"], choices=["S", "M", "L"])
ap.add_argument("--threads", nargs="+", type=int, default=[1, 2])
ap.add_argument("--compile", action="store_true", help="torch.compile instead of eager")
ap.add_argument("--bf16", action="store_true", help="zoo in bf16-exact, PyTorch in bf16 autocast")
ap.add_argument("--micro-batch", type=int, help="zoo: sequences at a time; the bits are those of the whole batch")
ap.add_argument("--zoo", default=str(HERE.parent.parent / "target" / "release" / "zoo"))
a = ap.parse_args()


def run(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])


print(f"{'':10}{'tokens/s':>22}{'ratio':>22}{'peak MiB':>18}{'share':>8}")
print(f"{'':10}{'zoo':>11}{'pytorch':>11}{'median':>8}{'min':>7}{'max':>7}{'zoo':>9}{'pytorch':>9}")
for config in a.configs:
    for threads in a.threads:
        ours, theirs = [], []
        for _ in range(a.pairs):
            ours.append(run([a.zoo, "bench", "step", "--config", config, "--threads", str(threads), "--json"]
                            + ["--profile", "bf16-exact" if a.bf16 else "f32-exact"]
                            + (["--micro-batch", str(a.micro_batch)] if a.micro_batch else [])))
            theirs.append(run([sys.executable, str(HERE / "pytorch_step.py"), config, "--threads", str(threads)]
                              + (["--compile"] if a.compile else []) + (["--bf16"] if a.bf16 else [])))
        ratios = [x["tokens_per_s"] / y["tokens_per_s"] for x, y in zip(ours, theirs)]
        middle = lambda rows, key: statistics.median(row[key] for row in rows)
        memory = middle(ours, "peak_mib"), middle(theirs, "peak_mib")
        print(f"{config} x {threads:<6}{middle(ours, 'tokens_per_s'):>11.0f}{middle(theirs, 'tokens_per_s'):>11.0f}"
              f"{statistics.median(ratios):>8.2f}{min(ratios):>7.2f}{max(ratios):>7.2f}"
              f"{memory[0]:>9.0f}{memory[1]:>9.0f}{memory[0] / memory[1]:>8.2f}", flush=True)
        assert len({row["digest"] for row in ours}) == 1, "the digest changed between runs"
