"""The storages of zoo against real servers, and its CIDs against the reference importer.

    npm --prefix tests/storage install --ignore-scripts
    pip install -r tests/storage/requirements.txt
    python tests/storage/check.py --zoo target/release/zoo

Trains a small run (or takes --run), puts it into a folder, a bucket of moto's S3 server, a node of IPFS and a CAR file,
a bucket of s3rver's, gets it back, compares every byte, resumes it, and prints what was measured. Everything that is started listens on
127.0.0.1 and is stopped at the end.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_REGION": "eu-north-1",
}
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def server(command: list, port: int):
    """A process that listens on `port`, until the block ends."""
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: are the packages installed?")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


class Zoo:
    def __init__(self, program: Path):
        self.program = program
        self.environment = {**os.environ, **CREDENTIALS}

    def start(self, *arguments) -> subprocess.Popen:
        command = [str(self.program), *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *arguments) -> list:
        """The lines of JSON that a command prints."""
        process = self.start(*arguments, "--json")
        output, errors = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"zoo {arguments} ended with {process.returncode}:\n{errors}")
        return [json.loads(line) for line in output.splitlines()]

    def refuses(self, *arguments) -> str:
        process = self.start(*arguments)
        _, errors = process.communicate()
        assert process.returncode == 1 and "\nhint: " in errors, (process.returncode, errors)
        return errors


def tree(folder: Path) -> dict:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def node(script: str, *arguments) -> list:
    command = ["node", script, *map(str, arguments)]
    output = subprocess.run(command, cwd=HERE, check=True, text=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in output.splitlines()]


def rpc(port: int, request: str) -> bytes:
    url = f"http://127.0.0.1:{port}/api/v0/{request}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return answer.read()


def report(what: str, **figures):
    shown = "  ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items())
    print(f"{what:34} {shown}", flush=True)


def megabytes_per_second(event: dict) -> float:
    return event["bytes"] / 1e6 / event["seconds"]


def round_trip(zoo: Zoo, run: Path, url: str, work: Path) -> tuple:
    """Puts a run, puts it again, lists it, gets it back; returns what was stored and the folder that came back."""
    stored = zoo.run("storage", "put", run, "--storage", url)[-1]
    again = zoo.run("storage", "put", run, "--storage", url)[-1]
    assert again["snapshot"] == stored["snapshot"], "one state, one name"
    assert url.startswith("car:") or again["sent_bytes"] == 0, again
    listed = zoo.run("storage", "list", url)
    assert stored["snapshot"] in [snapshot["snapshot"] for snapshot in listed], listed
    kind = url.split("/runs")[0] if url.startswith("s3:") else url.split(":")[0]
    out = work / ("out-" + kind.replace("/", "-"))
    fetched = zoo.run("storage", "get", url, stored["snapshot"], "--out", out)[-1]
    original, back = tree(run), tree(out)
    assert back and all(original[path] == digest for path, digest in back.items()), "other bytes came back"
    report(
        f"{kind}: put, put again, get",
        MB=stored["bytes"] / 1e6,
        put_MB_s=megabytes_per_second(stored),
        again_s=again["seconds"],
        get_MB_s=megabytes_per_second(fetched),
    )
    return stored, out


def check_cids(stored: dict, out: Path, work: Path, port: int, archive: Path):
    """The folder's CID is the reference importer's; every block comes back from the node under its name."""
    folder = work / "as-ipfs-has-it"
    shutil.copytree(out, folder)
    root = stored["cid"]
    (folder / "snapshot.json").write_bytes(rpc(port, f"cat?arg=/ipfs/{root}/snapshot.json"))
    reference = {entry["path"]: entry["cid"] for entry in node("reference_cid.mjs", folder)}
    assert reference[""] == root, (reference[""], root)
    entries = json.loads(rpc(port, "files/ls?arg=/zoo"))["Entries"]
    assert stored["snapshot"] in [entry["Name"] for entry in entries]
    for path, digest in tree(folder).items():
        bytes_of_node = rpc(port, f"cat?arg=/ipfs/{root}/{path}")
        assert hashlib.sha256(bytes_of_node).hexdigest() == digest, path
    blocks = set(rpc(port, f"refs?arg={root}&recursive=true&unique=true").split(b'"Ref":"')[1:])
    blocks = {block.split(b'"')[0].decode() for block in blocks} | {root}
    for cid in blocks:
        block = rpc(port, f"block/get?arg={cid}")
        assert node_cid(cid) == hashlib.sha256(block).digest(), cid
    car = node("read_car.mjs", archive)[0]
    assert car == {"roots": [root], "blocks": len(blocks)}, (car, len(blocks))
    report("CIDs equal to the reference's", files_and_folders=len(reference), blocks_from_node=len(blocks), root=root)


def node_cid(cid: str) -> bytes:
    """The SHA2-256 in a CIDv1 in base32."""
    import base64

    text = cid[1:].upper()
    return base64.b32decode(text + "=" * (-len(text) % 8))[4:]


def check_resume(zoo: Zoo, run: Path, folders: list, steps: int):
    """Each folder that came back trains on to the same bits as the run itself."""
    digests = set()
    for folder in [*folders, run]:
        done = zoo.run("train", "--resume", "--out", folder, "--steps", steps)[-1]
        digests.add(done["model_digest"])
    assert len(digests) == 1, digests
    report("resumed to the same bits", runs=len(folders) + 1, model_digest=digests.pop()[:12])


def check_cut(zoo: Zoo, run: Path, url: str, work: Path, after_s: float):
    """Kills put and get half-way; the same command then goes on."""
    put = zoo.start("storage", "put", run, "--storage", url)
    time.sleep(after_s)
    put.send_signal(signal.SIGKILL)
    put.wait()
    stored = zoo.run("storage", "put", run, "--storage", url)[-1]
    out = work / "out-cut"
    get = zoo.start("storage", "get", url, stored["snapshot"], "--out", out)
    time.sleep(after_s)
    get.send_signal(signal.SIGINT)
    get.communicate()
    fetched = out.exists() or zoo.run("storage", "get", url, stored["snapshot"], "--out", out)
    assert fetched and all(tree(run)[path] == digest for path, digest in tree(out).items())
    report(f"{url.split(':')[0]}: cut and gone on", sent_after_MB=stored["sent_bytes"] / 1e6, of_MB=stored["bytes"] / 1e6)


def check_training(zoo: Zoo, url: str, work: Path, stop):
    """A run whose storage goes away trains to its end, and stores its last checkpoint when it is back."""
    arguments = ["train", "--preset", "qwen3-tiny", "--data", HERE / "check.py", "--set", "checkpoint_every=20"]
    run = work / "stored-while-training"
    events = zoo.run(*arguments, "--steps", 60, "--out", run, "--storage", url)
    named = [event["event"] for event in events]
    assert "stored" in named and "not-stored" not in named and named[-1] == "done", named
    stop()
    events = zoo.run("train", "--resume", "--out", run, "--steps", 80, "--storage", url)
    named = [event["event"] for event in events]
    assert "not-stored" in named and named[-1] == "done", named
    report("training with a storage", without_it="trains on, says not-stored")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=HERE.parent.parent / "target/release/zoo")
    parser.add_argument("--run", type=Path, help="a run to store [default: a small one is trained]")
    parser.add_argument("--preset", default="qwen3-1m", help="of the run that is trained")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--figures", action="store_true", help="round trips and CIDs only, for a large run")
    options = parser.parse_args()
    zoo = Zoo(options.zoo.resolve())
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        run = work / "run"
        if options.run:
            shutil.copytree(options.run, run)
        else:
            zoo.run("train", "--preset", options.preset, "--steps", options.steps, "--out", run)
        s3_port, other_port, ipfs_port = free_port(), free_port(), free_port()
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3_port)]
        s3rver = ["node", "s3_server.mjs", work / "s3rver", str(other_port)]
        with server(moto, s3_port) as s3, server(s3rver, other_port), server(["node", "ipfs_node.mjs", work / "ipfs", str(ipfs_port)], ipfs_port):
            # The S3 server makes the bucket for whoever signs as anybody.
            bucket = urllib.request.Request(f"http://127.0.0.1:{s3_port}/bucket", method="PUT")
            bucket.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request")
            urllib.request.urlopen(bucket).close()
            endpoint = f"?endpoint=http://127.0.0.1:{s3_port}"
            urls = {
                "dir": f"dir:{work}/backup",
                "s3": f"s3://bucket/runs{endpoint}",
                "s3://other": f"s3://other/runs?endpoint=http://127.0.0.1:{other_port}",
                "ipfs": f"ipfs:127.0.0.1:{ipfs_port}",
                "car": f"car:{work}/run.car",
            }
            results = {kind: round_trip(zoo, run, url, work) for kind, url in urls.items()}
            names = {stored["snapshot"] for stored, _ in results.values()}
            assert len(names) == 1, names
            stored, out = results["ipfs"]
            assert results["car"][0]["cid"] == stored["cid"]
            check_cids(stored, out, work, ipfs_port, work / "run.car")
            if options.figures:
                return
            by_cid = work / "by-cid"
            zoo.run("storage", "get", urls["ipfs"], stored["cid"], "--out", by_cid)
            assert tree(by_cid) == tree(out)
            check_cut(zoo, run, f"s3://bucket/cut{endpoint}", work, 0.3)
            folders = [out for _, out in results.values()]
            steps = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["steps"] + 2
            check_resume(zoo, run, folders, steps)
            zoo.refuses("storage", "list", f"s3://nowhere/runs{endpoint}")
            check_training(zoo, f"s3://bucket/live{endpoint}", work, lambda: (s3.terminate(), s3.wait()))
    print("all of it holds")


if __name__ == "__main__":
    main()
