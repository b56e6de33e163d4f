#!/usr/bin/env python3
"""Runs the Python lines with which the project is described, as whoever installs the package would.

    python tests/python/check.py --zoo target/release/zoo --transformers PYTHON

The two wheels are built (the one that carries the binary from --zoo) and installed by pip into a clean virtual environment. Its `zoo` then
starts an orchestrator and four nodes, makes a key, and its Python runs `python/tests/description.py` as it stands: a job from a
configuration, and one from a `ComputeJob`. The first one's model is downloaded, and opened by the Python that --transformers names.

Prints one JSON object; exits with 1 unless everything is as it should be.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NODES = 4
STEPS = 40
CONFIG = f"preset: qwen3-1m\ndata: input.txt\nsteps: {STEPS}\nrounds: {{ inner_steps: 10, minimum_nodes: {NODES} }}\n"
TEXT = "".join(f"Sentence number {at} says that {at + 1} follows {at}, and {at * at % 97} does not.\n" for at in range(4000))
PROGRAM = """
import asyncio, json
import description
from zoo_compute import network

async def main():
    job = await description.train()
    folder = job.download("model")
    submitted = await description.submit("./model.toml", "input.txt", {"steps": 10, "rounds": {"inner_steps": 5}})
    other = await network.wait(submitted, progress=False)
    checkpoint = description.checkpoints()
    print(json.dumps({
        "state": job.state.value, "steps": job.info.steps, "rounds": len(job.metrics()), "bits_per_byte": job.info.bits_per_byte,
        "participants": max(job.metrics().column("participants")), "budget_tokens": job.info.tokens_max, "folder": str(folder),
        "submitted": other.state.value, "checkpoint": [checkpoint.interval, checkpoint.storage, checkpoint.redundancy],
    }))

asyncio.run(main())
"""
OPENS = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
prompt = tokenizer("Sentence number", return_tensors="pt")
tokens = model.generate(**prompt, max_new_tokens=16, do_sample=False)
print(json.dumps({"class": type(model).__name__, "parameters": model.num_parameters(), "text": tokenizer.decode(tokens[0])}))
"""


def output(command, **options):
    """What a command prints; it has to succeed."""
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def installed(zoo, folder):
    """A virtual environment with nothing but both wheels and what they need; its folder of programs."""
    wheels = folder / "wheels"
    output([sys.executable, ROOT / "python/tools/build_binary_wheel.py", "--binary", zoo, "--out", wheels])
    output([sys.executable, "-m", "venv", folder / "venv"])
    programs = folder / "venv/bin"
    pip = [programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    output([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT / "python"])
    [client], [binary] = wheels.glob("zoo_compute-*.whl"), wheels.glob("zoo_compute_bin-*.whl")
    output([*pip, "install", binary, f"{client}[local]"])
    return programs


@contextlib.contextmanager
def network(programs, folder, environment):
    """The orchestrator's URL and a key, while four nodes are there."""
    with contextlib.ExitStack() as running:

        def start(*arguments, stdout):
            command = [programs / "zoo", *arguments, "--json"]
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stdout, text=True)
            running.callback(process.wait)
            running.callback(process.terminate)
            return process.stdout

        up = ("up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
        up = json.loads(start(*up, stdout=subprocess.PIPE).readline())
        for at in range(NODES):
            start("join", up["ticket"], "--dir", f"node-{at}", "--threads", "1", "--no-page", stdout=subprocess.DEVNULL)
        create = [programs / "zoo", "keys", "create", "laptop", "--scope", "submit", "--dir", "orchestrator"]
        yield up["http"], output(create, cwd=folder, env=environment).strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--transformers", required=True, help="a Python that has transformers and torch")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        programs = installed(options.zoo, folder)
        # Nothing of whoever runs this: no package beside the wheels, no other binary, no settings.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ZOO_", "PYTHON"))}
        environment = {**kept, "PATH": f"{programs}:/usr/bin:/bin", "HOME": name, "HF_HUB_OFFLINE": "1"}
        (folder / "input.txt").write_text(TEXT)
        (folder / "training_config.yaml").write_text(CONFIG)
        (folder / "model.toml").write_text('preset = "qwen3-tiny"\n')
        (folder / "description.py").write_text((ROOT / "python/tests/description.py").read_text())
        (folder / "program.py").write_text(PROGRAM)
        began = time.monotonic()
        with network(programs, folder, environment) as (url, key):
            asked = {**environment, "ZOO_URL": url, "ZOO_API_KEY": key}
            said = json.loads(output([programs / "python", "program.py"], cwd=folder, env=asked).splitlines()[-1])
        said["seconds"] = round(time.monotonic() - began, 1)
        opened = json.loads(output([options.transformers, "-c", OPENS, folder / said.pop("folder")], env=environment).splitlines()[-1])
    done = said["state"] == said["submitted"] == "finished" and said["steps"] == STEPS and said["participants"] == NODES
    print(json.dumps({**said, "transformers": opened, "ok": done}))
    return 0 if done and opened["class"] == "Qwen3ForCausalLM" else 1


if __name__ == "__main__":
    sys.exit(main())
