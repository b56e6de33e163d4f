#!/usr/bin/env python3
"""Held-out loss of the numeric profiles on the same runs: the shape M, several seeds, several texts.

    cargo build --release
    python3 benches/quality.py --out DIR [--data FILE ...] [--seeds 1 2 3] [--steps 2000]

Without --data, the text is the packages that cargo has on this machine. A run that was interrupted goes
on where it stopped; a finished one is read from its log. Prints nats per token of the whole held-out
part after the last step, and the relative difference between the profiles.
"""
import argparse, json, pathlib, statistics, subprocess

HERE = pathlib.Path(__file__).resolve().parent
PROFILES = ["f32-exact", "bf16-exact"]
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
ap.add_argument("--data", nargs="*", type=pathlib.Path, default=[None], help="files of text")
ap.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
ap.add_argument("--steps", type=int, default=2000)
ap.add_argument("--preset", default="bench-m")
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
a = ap.parse_args()


def held_out_loss(data, seed, profile):
    """The run's last word on the held-out text, training whatever is missing of it."""
    name = data.stem if data else "packages"
    out = a.out / f"{name}-{seed}-{profile}"
    command = [a.zoo, "train", "--preset", a.preset, "--profile", profile, "--steps", str(a.steps), "--out", str(out),
               "--set", f"training.seed={seed}", "--set", "checkpoint_every=200", "--set", "evaluate_every=0", "--resume", "--json"]
    done = lambda: [e for e in events(out / "log.jsonl") if e["event"] == "done" and e["steps"] == a.steps]
    if not done():
        subprocess.run(command + (["--data", str(data)] if data else []), check=True, stdout=subprocess.DEVNULL)
    return done()[-1]["val_loss"]


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


for data in a.data:
    print(f"{data.name if data else 'packages'}: {a.preset}, {a.steps} steps")
    differences = []
    for seed in a.seeds:
        exact, rounded = (held_out_loss(data, seed, profile) for profile in PROFILES)
        differences.append(rounded / exact - 1)
        print(f"  seed {seed}   f32-exact {exact:.4f}   bf16-exact {rounded:.4f}   {differences[-1]:+.2%}", flush=True)
    print(f"  mean difference {statistics.mean(differences):+.2%}", flush=True)
