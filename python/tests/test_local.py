"""Networks of this machine: found, started, ended, whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo_compute import LocalNetworkError, find_binary, local_network


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone_within(pids: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(map(is_there, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(is_there, pids))


def a_program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_binary_is_the_one_named_or_the_variables_or_the_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, variables, paths = (a_program(tmp_path / name, "") for name in ("named", "variables", "zoo"))
    monkeypatch.setenv("ZOO_BINARY", str(variables))
    assert find_binary(named) == named
    assert find_binary() == variables
    monkeypatch.delenv("ZOO_BINARY")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "zoo_compute_bin", None)
    assert find_binary() == paths
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalNetworkError, match="no zoo binary") as error:
        find_binary()
    assert "zoo-compute[local]" in str(error.value.hint)
    monkeypatch.setenv("ZOO_BINARY", str(tmp_path / "gone"))
    with pytest.raises(LocalNetworkError, match="is no program"):
        find_binary()


def test_what_a_process_said_before_it_ended_is_repeated(tmp_path: Path) -> None:
    program = a_program(tmp_path / "broken", "echo the disk is full >&2; exit 1")
    with pytest.raises(LocalNetworkError, match="orchestrator ended: the disk is full"):
        local_network(1, binary=program, directory=tmp_path / "network").start()


def test_what_never_starts_is_given_up_and_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = a_program(tmp_path / "slow", f"echo $$ > {pid_file}; exec sleep 100")
    with pytest.raises(LocalNetworkError, match="did not start within"):
        # The first run answers whether the flag is known.
        script = program.read_text().replace("echo", 'case "$*" in *--help) exit 0;; esac; echo', 1)
        program.write_text(script)
        local_network(1, binary=program, directory=tmp_path / "network", timeout=0.3).start()
    assert gone_within([int(pid_file.read_text())], 5)


def test_a_network_that_is_not_running_says_so() -> None:
    network = local_network(1)
    for what in ("url", "ticket", "api_key"):
        with pytest.raises(LocalNetworkError, match="not running"):
            getattr(network, what)
    network.stop()
    with pytest.raises(LocalNetworkError, match="are no network"):
        local_network(-1)


def test_nothing_is_left_of_a_network_that_an_exception_ended(binary: Path) -> None:
    with pytest.raises(ZeroDivisionError), local_network(1, threads=1, binary=binary) as network:
        pids = [network.pid(), network.pid("node-1")]
        directory = Path(str(network.directory))
        assert all(map(is_there, pids)) and directory.is_dir()
        assert [node.name for node in network.client().nodes(live=True)] == ["node-1"]
        network.kill("node-1")
        assert gone_within(pids[1:], 0)
        network.restart("node-1")
        pids.append(network.pid("node-1"))
        assert is_there(pids[2]) and pids[2] != pids[1]
        raise ZeroDivisionError
    assert not any(map(is_there, pids))
    assert not directory.exists()


async def test_a_network_starts_beside_an_event_loop_and_can_be_given_up(binary: Path, tmp_path: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    async with local_network(0, binary=binary, directory=tmp_path / "kept") as network:
        async with network.async_client() as client:
            assert (await client.health()).status == "ok"
        assert ticks > 2
        pid = network.pid()
    assert not is_there(pid)
    assert (tmp_path / "kept" / "orchestrator").is_dir(), "a directory that was named is kept"

    async def start() -> None:
        async with local_network(1, threads=1, binary=binary):
            await asyncio.sleep(100)

    starting = asyncio.create_task(start())
    await asyncio.sleep(0.2)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    ticking.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_network_dies_with_a_program_that_is_killed(binary: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time, zoo_compute\n"
        "network = zoo_compute.local_network(1, threads=1, binary=sys.argv[1], directory=sys.argv[2]).start()\n"
        "print(network.pid(), network.pid('node-1'), flush=True)\n"
        "time.sleep(100)\n"
    )
    line = [sys.executable, "-c", program, str(binary), str(tmp_path / "network")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        pids = [int(pid) for pid in started.stdout.readline().split()]
        assert len(pids) == 2 and all(map(is_there, pids))
        started.send_signal(signal.SIGKILL)
    assert gone_within(pids, 15)
