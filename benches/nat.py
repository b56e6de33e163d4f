#!/usr/bin/env python3
"""A network whose machines are all behind routers of their own, in network namespaces: no machine has an address that the others can call.

    benches/nat.py [--zoo PATH] [--steps N] [--routers cone|symmetric] [--bulk-over-relay]

Needs root, `ip` and `nft`. A relay stands in the open; the orchestrator and two nodes are in three homes, whose routers translate addresses
and let in only what answers. `cone` routers keep the port of a socket, as home routers do: nodes punch through. `symmetric`
ones draw a port for every destination: nodes cannot, and everything large is refused unless the relay carries bulk.

Prints one line of JSON: whether the job finished, what the relay passed on, and what nodes complained of. The homes
have no way to any other network, so it also shows that nothing else is needed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HOMES = ["orchestrator", "ibex", "lynx"]
RELAY = "198.51.100.2"
PREFIX = "zoonat-"
PATIENCE_S = 180


def sh(*command, space=None, check=True):
    inside = ["ip", "netns", "exec", PREFIX + space] if space else []
    return subprocess.run([*inside, *command], check=check, capture_output=True, text=True)


def link(one, one_address, other, other_address):
    """A wire between two namespaces."""
    sh("ip", "link", "add", f"to-{other}"[:15], "netns", PREFIX + one, "type", "veth",
       "peer", "name", f"to-{one}"[:15], "netns", PREFIX + other)
    for space, name, address in [(one, f"to-{other}"[:15], one_address), (other, f"to-{one}"[:15], other_address)]:
        sh("ip", "address", "add", address, "dev", name, space=space)
        sh("ip", "link", "set", name, "up", space=space)


def space(name, forwards=False):
    sh("ip", "netns", "add", PREFIX + name)
    sh("ip", "link", "set", "lo", "up", space=name)
    if forwards:
        sh("sysctl", "-qw", "net.ipv4.ip_forward=1", space=name)


def router(name, wan, kind):
    """What a router at home does: it gives what goes out its own address, and lets in what answers."""
    ports = " fully-random" if kind == "symmetric" else ""
    rules = f"""
        table ip home {{
            chain out {{ type nat hook postrouting priority 100; oifname "{wan}" masquerade{ports}; }}
            chain through {{ type filter hook forward priority 0;
                iifname "{wan}" ct state established,related accept; iifname "{wan}" drop; }}
            chain in {{ type filter hook input priority 0;
                iifname "{wan}" ct state established,related accept; iifname "{wan}" drop; }}
        }}"""
    subprocess.run(["ip", "netns", "exec", PREFIX + name, "nft", "-f", "-"], input=rules, text=True, check=True)


def build(kind):
    space("inet", forwards=True)
    space("relay")
    link("inet", "198.51.100.1/24", "relay", f"{RELAY}/24")
    sh("ip", "route", "add", "default", "via", "198.51.100.1", space="relay")
    for at, home in enumerate(HOMES):
        space(f"r{at}", forwards=True)
        space(home)
        link("inet", f"203.0.113.{at * 4 + 1}/30", f"r{at}", f"203.0.113.{at * 4 + 2}/30")
        link(f"r{at}", f"192.168.{at}.1/24", home, f"192.168.{at}.2/24")
        sh("ip", "route", "add", "default", "via", f"203.0.113.{at * 4 + 1}", space=f"r{at}")
        sh("ip", "route", "add", "default", "via", f"192.168.{at}.1", space=home)
        router(f"r{at}", "to-inet", kind)


def demolish():
    spaces = sh("ip", "netns", "list").stdout.split()
    for name in [name for name in spaces if name.startswith(PREFIX)]:
        sh("ip", "netns", "delete", name, check=False)


class Process:
    """A process in a namespace, whose lines of JSON are kept."""

    def __init__(self, zoo, home, folder, *arguments):
        self.events, self.folder = [], folder
        command = ["ip", "netns", "exec", PREFIX + home, zoo, *arguments, "--json"]
        self.log = open(folder / f"{home}-{arguments[0]}.log", "w")
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=folder)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.events.append(json.loads(line))

    def find(self, name):
        return next((event for event in reversed(self.events) if event["event"] == name), None)

    def event(self, name, patience_s=PATIENCE_S):
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if found := self.find(name):
                return found
            if self.child.poll() is not None:
                self.reader.join(1)
                return self.find(name)
            time.sleep(0.05)
        return None

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(2)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
        self.reader.join(1)


def run(zoo, folder, options):
    (folder / "text.txt").write_text("a rose is a rose by any other name and the sea sings\n" * 8000)
    relay = Process(zoo, "relay", folder, "relay", "--listen", f"{RELAY}:3340")
    url = relay.event("listening")["url"]
    bulk = ["--bulk-over-relay"] if options.bulk_over_relay else []
    up = Process(zoo, HOMES[0], folder, "up", "--dir", "o", "--listen", "0.0.0.0:4040", "--relay", url, *bulk)
    listening = up.event("listening")
    if not listening:
        sys.exit((folder / f"{HOMES[0]}-up.log").read_text())
    ticket = listening["ticket"]
    nodes = [Process(zoo, home, folder, "join", ticket, "--dir", home, "--name", home, "--threads", "1") for home in HOMES[1:]]
    connected = [node.event("connected", 30) is not None for node in nodes]
    top = Process(zoo, HOMES[0], folder, "top", "--network", ticket)
    began = time.monotonic()
    submit = ["submit", "--network", ticket, "--preset", "qwen3-tiny", "--data", "text.txt", "--steps", str(options.steps),
              "--set", "training.batch_sequences=4", "--set", "rounds.inner_steps=4", "--set", "rounds.minimum_nodes=2"]
    submitted = Process(zoo, HOMES[0], folder, *submit).event("submitted")
    finished = top.event("job_finished", options.patience) if submitted else None
    seconds = time.monotonic() - began
    complaints = sorted({event["cause"].splitlines()[0] for node in nodes for event in node.events if event["event"] == "trouble"})
    rounds = sum(event["event"] == "round_finished" for event in top.events)
    for process in [*nodes, top, up, relay]:
        process.stop()
    return {
        "routers": options.routers, "bulk_over_relay": options.bulk_over_relay, "ticket_addresses": listening["addresses"],
        "connected": connected, "finished": finished is not None, "rounds": rounds, "seconds": round(seconds, 1),
        "relay_sent_bytes": (relay.find("stopped") or {}).get("sent_bytes"), "complaints": complaints[:4],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--zoo", default=str(root / "target/release/zoo"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--patience", type=int, default=PATIENCE_S, help="seconds for the job")
    parser.add_argument("--routers", choices=["cone", "symmetric"], default="cone")
    parser.add_argument("--bulk-over-relay", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("namespaces take root")
    demolish()
    try:
        build(options.routers)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(run(options.zoo, Path(folder), options)))
    finally:
        demolish()


if __name__ == "__main__":
    main()
