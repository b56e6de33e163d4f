#!/usr/bin/env python3
"""Held-out loss of the numeric profiles on the same runs: the shape M, several seeds, several texts.

    cargo build --release
    python3 benches/quality.py --out DIR [--data FILE ...] [--seeds 1 2 3] [--steps 2000] [--set KEY=VALUE ...]

Without --data, the text is the packages that cargo has on this machine; the profiles of a seed are only compared if they had the
same. --set changes any key of the runs, in another --out. With --control the second run of a seed is no other profile but
f32-exact with an epsilon of the optimiser that differs in its fourth digit: how far two runs are apart that should be alike. A run that was interrupted goes
on where it stopped; a finished one is read from its log. Prints nats per token of the whole held-out
part after the last step, and the relative difference between the profiles.
"""
import argparse, json, pathlib, statistics, subprocess

HERE = pathlib.Path(__file__).resolve().parent
DISTURBED = "f32-exact-disturbed"
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
ap.add_argument("--data", nargs="*", type=pathlib.Path, default=[None], help="files of text")
ap.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
ap.add_argument("--steps", type=int, default=2000)
ap.add_argument("--preset", default="bench-m")
ap.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of the runs")
ap.add_argument("--control", action="store_true", help="compare f32-exact with itself, disturbed")
ap.add_argument("--zoo", default=str(HERE.parent / "target" / "release" / "zoo"))
a = ap.parse_args()


def held_out_loss(data, seed, profile):
    """The run's last word on the held-out text, training whatever is missing of it, and the digest of that text."""
    name = data.stem if data else "packages"
    out = a.out / f"{name}-{seed}-{profile}"
    keys = [f"training.seed={seed}", "checkpoint_every=200", "evaluate_every=0", *a.set]
    if profile == DISTURBED:
        keys.append("training.optimizer.epsilon=1.001e-8")
    command = [a.zoo, "train", "--preset", a.preset, "--profile", profile.removesuffix("-disturbed"), "--steps", str(a.steps),
               "--out", str(out), *(word for key in keys for word in ("--set", key)), "--resume", "--json"]
    done = lambda: [e for e in events(out / "log.jsonl") if e["event"] == "done" and e["steps"] == a.steps]
    if not done():
        subprocess.run(command + (["--data", str(data)] if data else []), check=True, stdout=subprocess.DEVNULL)
    return done()[-1]["val_loss"], json.loads((out / "run.json").read_text())["data"]["held_out"]


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


second = DISTURBED if a.control else "bf16-exact"
for data in a.data:
    print(f"{data.name if data else 'packages'}: {a.preset}, {a.steps} steps")
    differences = []
    for seed in a.seeds:
        (exact, text), (rounded, other) = (held_out_loss(data, seed, profile) for profile in ("f32-exact", second))
        if text != other:
            raise SystemExit(f"seed {seed}: the packages on this machine changed between the runs; remove the later one's folder")
        differences.append(rounded / exact - 1)
        print(f"  seed {seed}   f32-exact {exact:.4f}   {second} {rounded:.4f}   {differences[-1]:+.2%}", flush=True)
    print(f"  mean difference {statistics.mean(differences):+.2%}", flush=True)
