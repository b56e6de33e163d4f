"""What people say of a job, and the document that it becomes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from conftest import a_client, a_job
from zoo_compute import CheckpointConfig, ComputeJob, ConfigError
from zoo_compute.files import read
from zoo_compute.job_config import JobDocument, texts_at


def test_the_parts_of_a_job_become_one_document(tmp_path: Path) -> None:
    model = tmp_path / "model.toml"
    model.write_text('preset = "qwen3-1m"\nlayers = 6\n[rounds]\nwarmup_steps = 5\n')
    training = {"steps": 400, "batch_sequences": 8, "training": {"clip": None}, "rounds": {"inner_steps": 50}}
    job = ComputeJob(
        model_config=model,
        data_config={"data": "text:ab", "held_out": {"percent": 3}},
        training_config={**training, "schedule": {"type": "constant", "learning_rate": 1e-3}},
        budget_max=10000,
        checkpoint=CheckpointConfig(interval=1000, redundancy=3, keep=1),
        name="mine",
    )
    assert job.document().said() == {
        "preset": "qwen3-1m",
        "model": {"layers": 6},
        "data": "text:ab",
        "held_out": {"percent": 3},
        "steps": 400,
        "training": {
            "batch_sequences": 8,
            "clip": None,
            "schedule": {"type": "constant", "learning_rate": 1e-3},
        },
        "rounds": {"warmup_steps": 5, "inner_steps": 50},
        "budget": {"max": 10000},
        "checkpoint": {"interval": 20, "redundancy": 3, "keep": 1},
        "run": "mine",
    }


def test_the_data_of_a_job_may_be_the_text_itself(tmp_path: Path) -> None:
    assert ComputeJob(data_config=tmp_path).document().said() == {"data": str(tmp_path)}
    assert ComputeJob(data_config="input.txt").document().said() == {"data": "input.txt"}
    (tmp_path / "data.yml").write_text("data: input.txt\ndata_bytes_max: 1000\n")
    said = ComputeJob(data_config=tmp_path / "data.yml").document().said()
    assert said == {"data": "input.txt", "data_bytes_max": 1000}


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        ({"steps": 5}, {"steps": 6}, "steps"),
        ({"training": {"clip": 1.0}}, {"clip": 2.0}, "training.clip"),
        ({"rounds": 5}, {"rounds": {"inner_steps": 4}}, "rounds"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(one: Any, other: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        ComputeJob(model_config=one, training_config=other).document()
    agreeing = ComputeJob(model_config={"steps": 5}, training_config={"steps": 5})
    assert agreeing.document().said() == {"steps": 5}


@pytest.mark.parametrize(("inner_steps", "rounds"), [(50, 20), (30, 33), ("10", 100), (" 7 ", 142), (5000, 1)])
def test_an_interval_in_steps_becomes_one_in_rounds(inner_steps: object, rounds: int) -> None:
    assert CheckpointConfig(interval=1000).section({"inner_steps": inner_steps}) == {"interval": rounds}


@pytest.mark.parametrize(
    "rounds",
    [None, {}, {"inner_steps": "10..100"}, {"inner_steps": 0}, {"inner_steps": 9, "follow_learning_rate": True}],
)
def test_an_interval_needs_rounds_of_one_length(rounds: object) -> None:
    with pytest.raises(ConfigError) as error:
        CheckpointConfig(interval=1000).section(rounds)
    assert "inner_steps" in str(error.value.hint)
    assert CheckpointConfig(redundancy=2).section(rounds) == {"redundancy": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"interval": True},
        {"redundancy": 0},
        {"keep": -1},
        {"storage": "ftp"},
        {"storage": "ipfs:127.0.0.1:5001"},
    ],
)
def test_a_checkpoint_plan_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CheckpointConfig(**wrong)


@pytest.mark.parametrize("storage", ["ipfs", "s3", "dir", "car"])
def test_a_storage_is_sent_and_one_that_nobody_has_is_warned_of_once(storage: str) -> None:
    sent: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            sent.append(json.loads(request.content).get("checkpoint", {}).get("storage"))
        return httpx.Response(201, json=a_job(state="finished", storage_missing=sent[-1]))

    client = a_client(answer)
    checkpoint = CheckpointConfig(storage=storage, redundancy=3)
    with pytest.warns(UserWarning, match=r"zoo join --storage") as warned:
        client.submit(ComputeJob(checkpoint=checkpoint)).result(progress=False)
    assert (len(warned), warned[0].filename) == (1, __file__)
    with pytest.warns(UserWarning, match=storage) as warned:
        client.train(checkpoint=checkpoint)
    assert (len(warned), warned[0].filename) == (1, __file__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.submit(ComputeJob(checkpoint=CheckpointConfig(redundancy=3)))
    assert sent == [storage, storage, None]


YAML = """# A job.
preset: qwen3-tiny
data:   # its text
  texts/a.txt
training: { clip: 1.0 }   # no
schedule:
  rate: 2e-3
budget:
  min: 1
  max: 5

# the end
"""
TOML = """# A job.
preset = "qwen3-tiny"
  data = "texts/a.txt" # its text
steps = 5

[training]
clip = 1.0
data = "not this"
"""


def changed(text: str, form: str) -> tuple[str, str]:
    document = JobDocument(text=text, format=form, name=f"x.{form}", values=read(text, form) or {})  # type: ignore[arg-type]
    said = document.changed(data="text:1,text:2", max_budget=5000).body()
    budget = {**(document.values.get("budget") or {}), "max": 5000}
    assert read(*said) == {**document.values, "data": "text:1,text:2", "budget": budget}
    return said


@pytest.mark.parametrize(
    "text",
    [
        YAML,
        YAML.replace("\n# the end\n", ""),
        YAML.replace("budget:\n  min: 1\n  max: 5\n", ""),
        "data: x\nbudget:\nsteps: 5",
    ]
    + [
        "preset: a\ndata: |\n  x\nsteps: 5\n",
        "data:\nsteps: 5",
        "steps: 5\nbudget: {max: 1,\n  min: 2}\ndata: 'x\n  y'",
    ],
)
def test_a_yaml_file_keeps_its_lines_when_it_is_changed(text: str) -> None:
    after, form = changed(text, "yaml")
    assert form == "yaml"
    for at, line in enumerate(text.splitlines()):
        key = line.split(":")[0]
        if key.strip() in ("preset", "training", "rate", "steps"):
            assert after.splitlines()[at].startswith(f"{key}:"), after


@pytest.mark.parametrize("text", ["", "# nothing\n", "{preset: a, data: b}\n", "{}", "---\nsteps: 5\n...\n"])
def test_other_ways_to_write_yaml_are_changed_too(text: str) -> None:
    assert changed(text, "yaml")[1] in ("yaml", "json")


@pytest.mark.parametrize("text", [TOML, TOML.split("\n[")[0], TOML.replace("texts/a.txt", "C:\\\\a")])
def test_a_toml_file_keeps_its_lines_when_it_is_changed(text: str) -> None:
    after, form = changed(text, "toml")
    assert form == "toml"
    assert after.splitlines()[3] == "steps = 5"


@pytest.mark.parametrize("text", ["steps = 5\n", 'data = "x"\n[budget]\nmax = 5\n', 'data = """\nx"""\n', ""])
def test_a_toml_file_that_cannot_be_changed_in_place_is_sent_as_json(text: str) -> None:
    assert changed(text, "toml")[1] == "json"


def test_a_file_that_nothing_changes_in_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("steps: 5 # five\n")
    assert JobDocument.read(path).body() == ("steps: 5 # five\n", "yaml")


def test_numbers_and_words_are_read_as_the_server_reads_them() -> None:
    values = read("a: 2e-3\nb: no\nc: 1:30\nd: 0x10\ne: .5\nf: ~\ng: 2020-01-01\nh: True\n", "yaml")
    assert values == {"a": 2e-3, "b": "no", "c": "1:30", "d": 16, "e": 0.5, "f": None, "g": "2020-01-01", "h": True}
    assert yaml.safe_load("b: no") == {"b": False}, "the loader of everybody else is as it was"


def test_errors_in_a_file_name_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for text, wanted in (
        ("steps: 5\nrun: [1\n", f"{path}:3"),
        ("5", "not a list"),
        ("a: !!python/name:x ''", f"{path}:1"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError) as error:
            JobDocument.read(path)
        assert wanted in str(error.value)
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "x.toml").write_text("a =")
    for name in ("x.json", "x.toml", "x.txt", "gone.yaml"):
        with pytest.raises(ConfigError, match=name):
            JobDocument.read(tmp_path / name)
    path.write_bytes(b"x" * (1 << 21))
    with pytest.raises(ConfigError, match="no configuration"):
        JobDocument.read(path)


def test_the_texts_of_a_folder_are_those_that_zoo_would_read(tmp_path: Path) -> None:
    files = {
        "b.txt": b"b",
        "a/z.md": b"z",
        "a-b.txt": b"ab",
        "empty.txt": b"",
        "image.png": b"\x89PNG\0",
        "latin1.txt": b"caf\xe9",
        ".git/config": b"x",
        "target/x.rs": b"x",
        "a/node_modules/x.js": b"x",
        "a/.hidden": b"x",
        "cut.txt": b"x" * 65535 + "é".encode(),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "link.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "nothing").mkdir()
    names = [str(path.relative_to(tmp_path)) for path in texts_at(tmp_path)]
    assert names == ["a/z.md", "a-b.txt", "b.txt", "cut.txt"]
    with pytest.raises(ConfigError, match="there is no"):
        texts_at(tmp_path / "gone")
    with pytest.raises(ConfigError, match="holds no text"):
        texts_at(tmp_path / "nothing")


def test_a_job_takes_so_many_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo_compute.job_config.TEXTS_MAX", 2)
    for at in range(3):
        (tmp_path / f"{at}.txt").write_text("x")
    with pytest.raises(ConfigError, match="holds 3 texts"):
        texts_at(tmp_path)


def test_a_mapping_is_sent_as_json() -> None:
    body, form = JobDocument.read({"run": "späť", "steps": 5}).body()
    assert (json.loads(body), form) == ({"run": "späť", "steps": 5}, "json")
