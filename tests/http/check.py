#!/usr/bin/env python3
"""Asks a real network everything that its OpenAPI description allows, and much that it does not, with schemathesis.

    pip install schemathesis
    python tests/http/check.py --zoo target/release/zoo [--examples 60]

An orchestrator and two nodes are started on this machine and train a small job, so that there is something to ask
about. Every operation is asked with what the description allows and with what it does not; no answer may be a server
error, have a status, type or body that is not described, take what is wrong for right, or do something without a key.
Only the streams of events are left out: they do not end.

Prints what schemathesis says; exits with 1 unless everything is as it should be.
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
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
JOB = {
    "preset": "qwen3-tiny",
    "run": "small",
    "steps": 8,
    "training": {"batch_sequences": 4},
    "rounds": {"inner_steps": 4},
}
STREAMS = r"/events$"
PATIENCE_S = 120


def ask(url, key, method="GET", body=None, kind="application/json"):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)) as answer:
        return json.load(answer)


@contextlib.contextmanager
def network(zoo, folder):
    """The orchestrator's URL and a key that may everything."""
    with contextlib.ExitStack() as running:

        def start(*arguments, stdout):
            process = subprocess.Popen([zoo, *arguments, "--json"], cwd=folder, stdout=stdout, text=True)
            running.callback(process.wait)
            running.callback(process.terminate)
            return process.stdout

        up = ("up", "--dir", "orchestrator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
        up = json.loads(start(*up, stdout=subprocess.PIPE).readline())
        create = [zoo, "keys", "create", "check", "--scope", "manage", "--dir", "orchestrator"]
        key = subprocess.run(create, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        for name in ("ibex", "lynx"):
            start("join", up["ticket"], "--dir", name, "--name", name, "--threads", "1", stdout=subprocess.DEVNULL)
        yield up["http"], key


def trained(url, key):
    """A job that is finished."""
    text = "".join(f"Sentence number {at} says that {at + 1} follows {at}.\n" for at in range(600)).encode()
    data = ask(f"{url}/v1/texts", key, "POST", text, "text/plain")["data"]
    job = ask(f"{url}/v1/jobs", key, "POST", json.dumps({**JOB, "data": data}).encode())
    until = time.monotonic() + PATIENCE_S
    while job["state"] != "finished":
        if time.monotonic() > until:
            sys.exit(f"the job does not end: {job}")
        time.sleep(0.2)
        job = ask(f"{url}/v1/jobs/{job['id']}", key)
    return job, data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--examples", type=int, default=60, help="most requests of each kind to an operation")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, network(options.zoo, folder) as (url, key):
        job, data = trained(url, key)
        node = ask(f"{url}/v1/nodes", key)["nodes"][0]["id"]
        there = {
            "id": job["id"],
            "node": node,
            "digest": data.removeprefix("text:"),
            "checkpoint": job["checkpoint"],
            "data": data,
        }
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", "all"]
        command += ["--header", f"Authorization: Bearer {key}", "--exclude-path-regex", STREAMS, "--seed", "1"]
        # Keys of a job have to fit each other, which no schema says: 422 is an answer to one that the schema takes.
        pathlib.Path(folder, "schemathesis.toml").write_text(
            '[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", 401, 403, 404, 409, 422, 429]\n'
        )
        command += ["--max-examples", str(options.examples), "--continue-on-failure", "--request-timeout", "60"]
        # A job without text is made of what cargo has here, which takes a while.
        command += ["--max-response-time", "60"]
        environment = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "THERE": json.dumps(there)}
        environment["JOB_SCHEMA"] = json.dumps(ask(f"{url}/v1/schemas/job.json", key))
        return subprocess.run(command, cwd=folder, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    sys.exit(main())
