"""What people say of a job, as the one document that the network takes: the keys of docs/model-builder.md.

A file is sent as it is, so that errors name its lines. What has to change in it, such as the path of text that was
uploaded, is changed in place; the result is read again and compared with what it should say before it is sent.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError, InvalidError, ProblemError, RefusedError
from .files import edited_toml, edited_yaml, parsed, says

Config = str | os.PathLike[str] | Mapping[str, Any]

# Where nodes know how to store checkpoints (`zoo join --storage`).
STORAGES = ("ipfs", "s3", "dir", "car")
# Texts that one job takes.
TEXTS_MAX = 4096
# Larger files are data, not configurations.
CONFIG_BYTES_MAX = 1 << 20
# By so much of its start a file is told to be text.
START_BYTES = 1 << 16
# Folders that hold what programs built or fetched; `zoo` does not read them either.
BUILT_FOLDERS = ("target", "node_modules")
# Keys that stand at the top of a document. Others belong to the section that the program put them in.
TOP_KEYS = frozenset(
    ("preset", "run", "data", "from", "data_bytes_max", "held_out", "vocabulary", "out", "steps", "evaluate_every")
    + ("evaluate_tokens_max", "checkpoint_every", "checkpoint_storage", "log_every", "model", "training", "rounds")
    + ("checkpoint", "budget")
)
FORMATS = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Which checkpoints the network keeps, and how often.

    `interval` counts inner steps, and the network's rounds have `rounds.inner_steps` of them each; what is sent is
    `interval // inner_steps` rounds, and at least one: a checkpoint is kept at least as often as asked, unless rounds
    themselves are longer. So `rounds.inner_steps` has to be a number; where it is a range (the default is `10..100`),
    or follows the learning rate, nobody knows before how many rounds `interval` steps are, and a `ConfigError` says so.

    `storage` says that each checkpoint should also be in IPFS, in a bucket, a folder or a CAR file: `ipfs`, `s3`, `dir`
    or `car`. Nodes that were started with such a `zoo join --storage` are asked to keep them first, also when they come
    later; while there is none, others keep them, and a `UserWarning` says so when the job is submitted.
    """

    interval: int | None = None
    """Inner steps between checkpoints that are kept; none: the network's default, in rounds."""
    storage: str | None = None
    """Where nodes should store them besides; none: nowhere."""
    redundancy: int | None = None
    """Nodes that keep each checkpoint."""
    keep: int | None = None
    """Of the checkpoints at intervals, so many are kept; older ones go."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        for name, least in (("interval", 1), ("redundancy", 1), ("keep", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ConfigError(f"CheckpointConfig: {name} is {value!r}", f"write a whole number, at least {least}")
        if self.storage is not None and self.storage not in STORAGES:
            detail = f"CheckpointConfig: storage is {self.storage!r}, which nodes do not know"
            raise ConfigError(detail, f"write one of {', '.join(STORAGES)}, or leave it out")

    def section(self, rounds: object) -> dict[str, int | str]:
        """The document's `checkpoint`, of a job with these `rounds`."""
        interval = None if self.interval is None else max(1, self.interval // _inner_steps(rounds))
        said = {"redundancy": self.redundancy, "keep": self.keep, "storage": self.storage}
        values: dict[str, int | str | None] = {"interval": interval, **said}
        return {key: value for key, value in values.items() if value is not None}


def _inner_steps(rounds: object) -> int:
    said = rounds if isinstance(rounds, Mapping) else {}
    inner_steps = said.get("inner_steps")
    if isinstance(inner_steps, str) and inner_steps.strip().isdecimal():
        inner_steps = int(inner_steps)
    is_constant = isinstance(inner_steps, int) and inner_steps > 0 and not said.get("follow_learning_rate")
    if not is_constant:
        shown = "10..100, the default" if inner_steps is None else repr(inner_steps)
        detail = f"CheckpointConfig: interval counts steps, and rounds here have no fixed number of them ({shown})"
        hint = 'fix it, as in training_config={"rounds": {"inner_steps": 50}}, or leave interval out'
        raise ConfigError(detail, hint)
    assert isinstance(inner_steps, int)
    return inner_steps


@dataclass(frozen=True, kw_only=True)
class ComputeJob:
    """A job in three parts, each a mapping, or the path of a YAML, TOML or JSON file.

    The parts become one document. Keys that stand at the top of it (`preset`, `data`, `steps`, `rounds`, ...) may be in
    any part; of the others, those in `model_config` are keys of `model`, and those in `training_config` of `training`.
    `data_config` may also be the path of a text file or of a folder of texts.
    """

    model_config: Config | None = None
    """What to train: `preset`, and what differs from it (`layers`, `width`, ...)."""
    data_config: Config | None = None
    """On what: `data`, `held_out`, `data_bytes_max`."""
    training_config: Config | None = None
    """How: `steps`, `rounds`, and keys of `training` (`batch_sequences`, `schedule`, ...)."""
    budget_max: float | None = None
    """What it may cost, in units of work: 10^15 floating-point operations, as `budget.max`."""
    checkpoint: CheckpointConfig | None = None
    """Which checkpoints are kept."""
    name: str | None = None
    """What people call it."""

    def document(self) -> JobDocument:
        """The parts as one."""
        values: dict[str, Any] = {}
        parts = (("model", self.model_config), ("", self._data()), ("training", self.training_config))
        for section, part in parts:
            for key, value in ({} if part is None else JobDocument.read(part).values).items():
                if key in TOP_KEYS or not section:
                    _put(values, (key,), value)
                else:
                    _put(values, (section, key), value)
        document = JobDocument(values=values)
        return document.changed(name=self.name, max_budget=self.budget_max, checkpoint=self.checkpoint)

    def _data(self) -> Config | None:
        part = self.data_config
        if part is None or isinstance(part, Mapping) or Path(part).suffix in FORMATS:
            return part
        return {"data": os.fspath(part)}


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Puts a value where no part has put another."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _put(values, (*path, key), inner)
        if value:
            return
    place = values
    for key in path[:-1]:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            raise ConfigError(f"ComputeJob: two parts say different things of {key!r}", "say it in one of them")
    if place.setdefault(path[-1], value) != value:
        raise ConfigError(f"ComputeJob: two parts say different things of {'.'.join(path)!r}", "say it in one of them")


@dataclass(frozen=True, kw_only=True)
class JobDocument:
    """What a job says, where that is from, and what is to be said differently."""

    values: dict[str, Any]
    """The document, read."""
    text: str | None = None
    """The file's text, if it is from a file."""
    format: str = "json"
    """The file's format."""
    name: str | None = None
    """The file's name, for messages."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Values of keys at the top that are not as in the file."""

    @classmethod
    def read(cls, config: Config) -> JobDocument:
        """A mapping as it is, or the file at a path."""
        if isinstance(config, Mapping):
            return cls(values=dict(config))
        path = Path(config)
        if path.suffix not in FORMATS:
            raise ConfigError(f"{path}: neither YAML, TOML nor JSON", "name the file .yaml, .toml or .json")
        try:
            size = path.stat().st_size
            if size > CONFIG_BYTES_MAX:
                raise ConfigError(f"{path}: {size} bytes are no configuration", "is it the text? give that as data")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            raise ConfigError(f"cannot read {path}: {cause}", "check the path of the configuration") from cause
        form = FORMATS[path.suffix]
        return cls(values=parsed(text, form, str(path)), text=text, format=form, name=str(path))

    def changed(
        self,
        *,
        data: str | os.PathLike[str] | None = None,
        name: str | None = None,
        max_budget: float | None = None,
        checkpoint: CheckpointConfig | None = None,
    ) -> JobDocument:
        """The same, with what a program says besides."""
        changes = dict(self.changes)
        if data is not None:
            changes["data"] = os.fspath(data)
        if name is not None:
            changes["run"] = name
        if max_budget is not None:
            changes["budget"] = {**self._section("budget"), "max": max_budget}
        if checkpoint is not None:
            section = checkpoint.section(self.values.get("rounds"))
            changes["checkpoint"] = {**self._section("checkpoint"), **section}
        return JobDocument(values=self.values, text=self.text, format=self.format, name=self.name, changes=changes)

    def said(self) -> dict[str, Any]:
        """The document, as it is to be."""
        return {**self.values, **self.changes}

    def texts(self) -> list[Path] | None:
        """The files of this machine that the job's text is in; none if it is elsewhere."""
        data = self.said().get("data")
        if not isinstance(data, str) or data.startswith("text:"):
            return None
        return texts_at(Path(data), f"{self.name}: data" if self.name and "data" not in self.changes else "data")

    def body(self) -> tuple[str, str]:
        """What is sent, and its format: the file's own text with the changes in it, or JSON where that cannot be."""
        if self.text is not None:
            edit = {"yaml": edited_yaml, "toml": edited_toml}.get(self.format)
            edited = edit(self.text, self.changes) if edit and self.changes else None if self.changes else self.text
            if edited is not None and (not self.changes or says(edited, self.format, self.said())):
                return edited, self.format
        return json.dumps(self.said(), ensure_ascii=False), "json"

    def explained(self, problem: ProblemError) -> ProblemError:
        """The same problem of this document, with the file's name, and its line where the file's own text was sent."""
        if not isinstance(problem, InvalidError | RefusedError):
            return problem
        at = re.match(r"line (\d+): ", problem.detail)
        is_own = self.text is not None and not (self.format == "json" and self.changes)
        line = f":{at[1]}" if at and is_own else ""
        place = f"{self.name}{line}: " if self.name else ""
        return type(problem)(problem.problem, place + problem.detail[at.end() if at else 0 :], problem.hint)

    def _section(self, key: str) -> dict[str, Any]:
        section = self.said().get(key)
        return dict(section) if isinstance(section, Mapping) else {}


def texts_at(path: Path, place: str = "data") -> list[Path]:
    """The text files at a path, ordered by their paths' parts: hidden, linked, built, empty and binary ones are left
    out."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{place}: there is no {str(path)!r} here", "paths are relative to where Python was started")
    found: list[Path] = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in BUILT_FOLDERS]
        found += [Path(folder) / name for name in files if not name.startswith(".")]
    texts = sorted((one for one in found if _is_text(one)), key=lambda one: one.relative_to(path).parts)
    if not texts:
        raise ConfigError(f"{place}: {str(path)!r} holds no text", "give a file, or a folder with UTF-8 text files")
    if len(texts) > TEXTS_MAX:
        detail = f"{place}: {str(path)!r} holds {len(texts)} texts, and a job takes {TEXTS_MAX}"
        raise ConfigError(detail, "join them into fewer files")
    return texts


def _is_text(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start, final=len(start) < START_BYTES)
        return bool(text) and "\0" not in text
    except UnicodeDecodeError:
        return False
