"""Models in folders: whole or not at all, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import a_client, a_job, problem
from zoo_compute import ConfigError, UnexpectedAnswerError, UnsafeNameError, ZooError


class Models:
    """A server with a model of these files, whose sizes may be lies."""

    def __init__(self, files: dict[str, bytes], *, sizes: dict[str, int] | None = None, name: str = "m") -> None:
        self.files, self.sizes, self.name = files, sizes or {}, name
        self.checkpoints = ["one"] * 100
        self.fetched: list[str] = []
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/model"):
            files = [{"name": name, "bytes": self.sizes.get(name, len(data))} for name, data in self.files.items()]
            return httpx.Response(200, json={"checkpoint": self.checkpoints.pop(0), "files": files})
        if "/model/" in path:
            name = path.split("/model/")[1]
            self.fetched.append(name)
            self.asked.append(request.url.params["checkpoint"])
            return httpx.Response(200, content=self.files[name])
        return httpx.Response(200, json=a_job(name=self.name))


GOOD = {"config.json": b"{}", "model.safetensors": b"weights" * 100}


def everything(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_a_folder_of_its_files(tmp_path: Path) -> None:
    job = a_client(Models(GOOD)).job("a")
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "deep"):
        assert job.download(folder) == folder
        assert everything(folder) == GOOD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]


def test_without_a_folder_it_has_the_jobs_name_but_only_as_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, wanted in (
        ("my model/../x", "my-model-..-x"),
        ("../../up", "-..-up"),
        ("..", "ab" * 8),
        ("/etc", "-etc"),
    ):
        assert a_client(Models(GOOD, name=name)).job("ab" * 32).download() == tmp_path / "here" / wanted
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


HOSTILE = [
    "../evil",
    "/etc/evil",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    ".hidden",
    "C:evil",
    "evil\0",
    "evil.",
    "x" * 300,
    "e vil",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_more_than_a_name_is_refused_before_anything_is_fetched(name: str, tmp_path: Path) -> None:
    server = Models({"config.json": b"{}", name: b"evil"})
    with pytest.raises(UnsafeNameError):
        a_client(server).job("a").download(tmp_path / "in" / "model")
    assert server.fetched == []
    assert everything(tmp_path) == {}


def test_two_names_that_some_disks_take_for_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeNameError):
        a_client(Models({"a.json": b"1", "A.json": b"2"})).job("a").download(tmp_path / "model")


@pytest.mark.parametrize("size", [3, 1000])
def test_a_file_of_another_size_than_said_leaves_nothing(size: int, tmp_path: Path) -> None:
    server = Models({"config.json": b"12345"}, sizes={"config.json": size})
    with pytest.raises(UnexpectedAnswerError):
        a_client(server).job("a").download(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_of_the_checkpoint_that_was_listed(tmp_path: Path) -> None:
    server = Models(GOOD)
    server.checkpoints = ["one", "two"]
    a_client(server).job("a").download(tmp_path / "model")
    assert server.asked == ["one"] * len(GOOD)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for taken in ("mine", "full"):
        with pytest.raises(ConfigError, match="there is something already"):
            a_client(Models(GOOD)).job("a").download(tmp_path / taken)


def test_a_problem_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        if "/model/" in request.url.path:
            return problem(404, "not-found", "the model has no such file")
        return Models(GOOD)(request)

    with pytest.raises(ZooError):
        a_client(server).job("a").download(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
