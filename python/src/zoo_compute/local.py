"""A network on this machine: an orchestrator and nodes, each a process of the `zoo` binary, for as long as a program
wants one."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .client import AsyncClient, Client
from .errors import LocalNetworkError, ZooError

Path_ = str | os.PathLike[str]
# A process that was asked to stop has stopped within this time.
FAREWELL_S = 10.0
POLL_S = 0.05
# Of what a process said before it died, so much is repeated.
LAST_WORDS_BYTES = 2000


def find_binary(binary: Path_ | None = None) -> Path:
    """The `zoo` to start: this one, else `ZOO_BINARY`, else the one of `zoo-compute-bin`, else the one on the path."""
    named = binary or os.environ.get("ZOO_BINARY")
    if named:
        found = shutil.which(os.fspath(named))
        if found is None:
            raise LocalNetworkError(f"{os.fspath(named)!r} is no program", "check the path, or ZOO_BINARY")
        return Path(found).resolve()
    try:
        import zoo_compute_bin
    except ImportError:
        found = shutil.which("zoo")
    else:
        found = str(zoo_compute_bin.path())
    if found is None:
        hint = "pip install 'zoo-compute[local]', or name one with ZOO_BINARY"
        raise LocalNetworkError("there is no zoo binary here", hint)
    return Path(found).resolve()


def local_network(
    nodes: int = 2,
    *,
    threads: int | None = None,
    directory: Path_ | None = None,
    binary: Path_ | None = None,
    timeout: float = 60.0,
) -> LocalNetwork:
    """A network of so many nodes, as a context manager: `with local_network(nodes=4) as network:`, or `async with`.

    Each node computes with `threads` threads; by default they share what there is. With a `directory` the network can
    be started again with the jobs that it had; without, nothing is left of it. It has `timeout` seconds to start.
    """
    return LocalNetwork(nodes, threads=threads, directory=directory, binary=binary, timeout=timeout)


class LocalNetwork:
    """A network on this machine. Its processes end with the context, and with this process, however that ends."""

    def __init__(
        self, nodes: int, *, threads: int | None, directory: Path_ | None, binary: Path_ | None, timeout: float
    ) -> None:
        """Starts nothing yet."""
        if nodes < 0 or (threads is not None and threads < 1):
            raise LocalNetworkError(f"{nodes} nodes with {threads} threads are no network")
        self.directory: Path | None = None if directory is None else Path(directory).resolve()
        self._node_count = nodes
        self._threads = threads or max(1, (os.cpu_count() or 1) // max(1, nodes))
        self._is_temporary = directory is None
        self._binary_given, self._timeout_s = binary, timeout
        self._processes: dict[str, _Process] = {}
        self._said: dict[str, Any] = {}
        self._api_key: str | None = None
        self._key_name = f"local-network-{secrets.token_hex(4)}"
        self._turn = threading.Lock()
        self._is_stopping = threading.Event()

    @property
    def url(self) -> str:
        """Where its HTTP interface is."""
        return str(self._started("http"))

    @property
    def ticket(self) -> str:
        """What `zoo join` takes, for nodes besides."""
        return str(self._started("ticket"))

    @property
    def api_key(self) -> str:
        """A key that allows everything."""
        if self._api_key is None:
            raise LocalNetworkError("the network is not running", "use it in a with statement")
        return self._api_key

    def client(self) -> Client:
        """A client of it."""
        return Client(self.api_key, self.url)

    def async_client(self) -> AsyncClient:
        """The same, for programs with an event loop."""
        return AsyncClient(self.api_key, self.url)

    def pid(self, process: str = "orchestrator") -> int:
        """The id of a process: `orchestrator`, `node-1`, `node-2` and so on."""
        return self._processes[process].pid

    def start(self) -> LocalNetwork:
        """Starts it, and returns when every node is there."""
        with self._turn:
            if self._processes:
                raise LocalNetworkError("the network is running already")
            self._is_stopping.clear()
            atexit.register(self.stop)
            try:
                self._start()
            except BaseException:
                self._end()
                raise
        return self

    def stop(self) -> None:
        """Stops every process, and removes the directory if it was a temporary one."""
        self._is_stopping.set()
        with self._turn:
            self._end()

    def kill(self, process: str = "orchestrator") -> None:
        """Ends a process as a power cut would, to see what that does; `restart` brings it back."""
        self._processes[process].kill()

    def restart(self, process: str = "orchestrator") -> None:
        """Starts a process that was killed, in the directory and at the address that it had."""
        self._processes[process].kill()
        with self._turn:
            if process == "orchestrator":
                self._start_orchestrator(listen=self._said["addresses"][0], http=self.url.split("://", 1)[1])
            else:
                self._start_node(process)

    def __enter__(self) -> LocalNetwork:
        """Starts it."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops it."""
        self.stop()

    async def __aenter__(self) -> LocalNetwork:
        """Starts it, while the event loop goes on."""
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._is_stopping.set()
            with contextlib.suppress(ZooError):
                await starting
            await asyncio.to_thread(self.stop)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stops it."""
        await asyncio.shield(asyncio.to_thread(self.stop))

    def _start(self) -> None:
        self._binary = find_binary(self._binary_given)
        if self._is_temporary:
            self.directory = Path(tempfile.mkdtemp(prefix="zoo-network-"))
        self._home.mkdir(parents=True, exist_ok=True)
        # Where the binary can, it ends when this process does, however that ends.
        asked = [str(self._binary), "up", "--exit-with-stdin", "--help"]
        self._dies_with_us = subprocess.run(asked, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
        self._deadline_s = time.monotonic() + self._timeout_s
        self._start_orchestrator(listen="127.0.0.1:0", http="127.0.0.1:0")
        self._api_key = self._make_key()
        for at in range(self._node_count):
            self._start_node(f"node-{at + 1}")
        with self.client() as client:
            while len(client.nodes(live=True)) < self._node_count:
                self._wait_a_moment(f"{self._node_count} nodes", list(self._processes.values()))

    def _start_orchestrator(self, *, listen: str, http: str) -> None:
        self._deadline_s = time.monotonic() + self._timeout_s
        process = self._launch("orchestrator", "up", "--listen", listen, "--http", http, "--json")
        while (line := process.first_line()) is None:
            self._wait_a_moment("the orchestrator", [process])
        self._said = json.loads(line)

    def _start_node(self, name: str) -> None:
        self._launch(name, "join", self.ticket, "--threads", str(self._threads), "--name", name, "--no-page")

    def _launch(self, name: str, command: str, *arguments: str) -> _Process:
        line = [str(self._binary), command, "--dir", str(self._home / name), *arguments]
        process = _Process(name, [*line, "--exit-with-stdin"] if self._dies_with_us else line, self._home)
        self._processes[name] = process
        return process

    def _make_key(self) -> str:
        answer = self._keys("create", self._key_name, "--scope", "manage", "--json")
        if answer.returncode != 0:
            raise LocalNetworkError(f"no key could be made: {answer.stderr.strip()}")
        return str(json.loads(answer.stdout)["key"])

    def _keys(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [str(self._binary), "keys", *arguments, "--dir", str(self._home / "orchestrator")]
        return subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def _wait_a_moment(self, what: str, processes: list[_Process]) -> None:
        if self._is_stopping.is_set():
            raise LocalNetworkError("the network was stopped while it started")
        for process in processes:
            if process.has_ended():
                raise LocalNetworkError(f"{process.name} ended: {process.last_words()}")
        if time.monotonic() > self._deadline_s:
            words = "; ".join(filter(None, (process.last_words() for process in processes)))
            raise LocalNetworkError(f"{what} did not start within {self._timeout_s:.0f} s", words or None)
        time.sleep(POLL_S)

    def _end(self) -> None:
        # Nodes first, so that somebody hears them leave.
        nodes = [process for name, process in self._processes.items() if name != "orchestrator"]
        for process in nodes:
            process.ask_to_stop()
        for process in [*nodes, *self._processes.values()]:
            process.end()
        if self._api_key is not None and not self._is_temporary:
            self._keys("revoke", self._key_name)
        self._processes.clear()
        self._api_key, self._said = None, {}
        if self._is_temporary and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None
        atexit.unregister(self.stop)

    @property
    def _home(self) -> Path:
        if self.directory is None:
            raise LocalNetworkError("the network is not running", "use it in a with statement")
        return self.directory

    def _started(self, what: str) -> object:
        if what not in self._said:
            raise LocalNetworkError("the network is not running", "use it in a with statement")
        return self._said[what]


class _Process:
    """A process whose words go into files, and whose stdin ends with this process."""

    def __init__(self, name: str, line: list[str], folder: Path) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        # Ctrl-C in a terminal or notebook is for the program, which stops its network itself.
        alone: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=out, stderr=err, **alone)

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def first_line(self) -> str | None:
        line, ended, _ = self._out.read_text(encoding="utf-8").partition("\n")
        return line if ended else None

    def last_words(self) -> str:
        return self._err.read_bytes()[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()

    def ask_to_stop(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if not self.has_ended():
            self._process.terminate()

    def end(self) -> None:
        self.ask_to_stop()
        try:
            self._process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.ask_to_stop()
