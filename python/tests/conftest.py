"""What tests share: networks that are real, servers that are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from zoo_compute import Client, LocalNetwork, LocalNetworkError, events, find_binary, local_network, operations

Handler = Callable[[httpx.Request], httpx.Response]
KEY = "zoo_" + "0" * 64


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests, and no waiting for servers that are not real."""
    monkeypatch.delenv("ZOO_URL", raising=False)
    monkeypatch.delenv("ZOO_API_KEY", raising=False)
    monkeypatch.setattr(operations, "PAUSE_S", 0.001)
    monkeypatch.setattr(events, "PAUSE_S", 0.001)


@pytest.fixture(scope="session")
def binary() -> Path:
    try:
        return find_binary()
    except LocalNetworkError as missing:
        pytest.skip(f"no network can be started: {missing}")


@pytest.fixture(scope="session")
def zoo(binary: Path) -> Iterator[LocalNetwork]:
    """Two nodes of one thread."""
    with local_network(nodes=2, threads=1, binary=binary) as network:
        yield network


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 30 kB whose lines differ."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    lines = (f"{at} green bottles, {at * at} on the wall, {at % 7} of them blue.\n" for at in range(600))
    path.write_text("".join(lines))
    return path


def tiny(text: Path, **more: Any) -> dict[str, Any]:
    """A job of a second or two."""
    training = {"batch_sequences": 4, "seed": more.pop("seed", 1)}
    job = {"preset": "qwen3-tiny", "data": str(text), "steps": 12, "training": training, "rounds": {"inner_steps": 4}}
    return {**job, **more}


def a_client(handler: Handler) -> Client:
    """A client of a server that is a function."""
    return Client(KEY, "http://zoo.test", transport=httpx.MockTransport(handler))


def problem(status: int, kind: str, detail: str, hint: str | None = None) -> httpx.Response:
    """What a server says against a request."""
    body = {"type": kind, "title": kind, "status": status, "detail": detail, "hint": hint}
    return httpx.Response(status, content=json.dumps(body), headers={"content-type": "application/problem+json"})


def a_job(**more: Any) -> dict[str, Any]:
    """A job as a server says it."""
    job = {"id": "ab" * 32, "name": "my-model", "state": "running", "rounds": 1, "steps": 10, "of_steps": 40}
    return {**job, "tokens": 640, "accepted_ms": 1, **more}
