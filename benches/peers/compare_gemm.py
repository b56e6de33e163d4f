#!/usr/bin/env python3
"""Runs `zoo bench gemm --profile bf16-exact` and PyTorch's bf16 products in alternation; prints ratios.

    cargo build --release
    .venv/bin/python benches/peers/compare_gemm.py [--runs 3] [--threads 1 2]

Both take f32 and give f32, conversion and packing included.
"""
import argparse, json, pathlib, statistics, subprocess, sys

HERE = pathlib.Path(__file__).resolve().parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--threads", nargs="+", type=int, default=[1, 2])
ap.add_argument("--zoo", default=str(HERE.parent.parent / "target" / "release" / "zoo"))
a = ap.parse_args()


def run(command):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.strip().splitlines()[-1])["products"]


for threads in a.threads:
    ours, theirs = [], []
    for _ in range(a.runs):
        ours.append(run([a.zoo, "bench", "gemm", "--profile", "bf16-exact", "--threads", str(threads), "--json"]))
        theirs.append(run([sys.executable, str(HERE / "pytorch_gemm.py"), "--threads", str(threads)]))
    print(f"{threads} thread(s)         GFLOP/s: zoo  pytorch  ratio  share of the tile peak")
    ratios = []
    for i, product in enumerate(ours[0]):
        assert (product["m"], product["n"], product["k"]) == (theirs[0][i]["m"], theirs[0][i]["n"], theirs[0][i]["k"])
        zoo = statistics.median(run[i]["gflops"] for run in ours)
        pytorch = statistics.median(run[i]["gflops"] for run in theirs)
        ratios.append(statistics.median(x[i]["gflops"] / y[i]["gflops"] for x, y in zip(ours, theirs)))
        share = statistics.median(run[i]["share"] for run in ours)
        print(f"  {product['config']} {product['layer']:8} {product['transposes']}  {zoo:14.0f}{pytorch:9.0f}{ratios[-1]:7.2f}{100 * share:12.0f} %")
    print(f"  median {statistics.median(ratios):.2f}, minimum {min(ratios):.2f}")
