"""The examples of docs/python.md run, one after the other, as they stand."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from zoo_compute import LocalNetwork

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


async def test_the_examples_run(
    zoo: LocalNetwork,
    binary: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in (("ZOO_URL", zoo.url), ("ZOO_API_KEY", zoo.api_key), ("ZOO_BINARY", str(binary))):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").symlink_to(text)
    (tmp_path / "training_config.yaml").write_text(blocks("yaml")[0])
    examples = blocks("python")
    assert len(examples) == 4
    for example in examples:
        code = compile(example, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, {})
        if inspect.isawaitable(running):
            await running
    said = capsys.readouterr().out
    assert (tmp_path / "first" / "config.json").is_file()
    for wanted in ("job_accepted", "job_finished", "step: there is no such key\ndid you mean steps?"):
        assert wanted in said
