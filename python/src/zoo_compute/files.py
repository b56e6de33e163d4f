"""Configuration files as values, and with some values changed in place, so that every line stays where it was."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from .errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Loader(yaml.SafeLoader):
    """YAML as the server reads it: by the core schema of YAML 1.2, where `2e-3` is a number, and `no` is a text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own way)


_CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)
for _tag, _form, _first in _CORE:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), _first)


def parsed(text: str, form: str, name: str) -> dict[str, Any]:
    """The keys and values of a file's text."""
    try:
        values: object = read(text, form)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {getattr(cause, 'problem', None) or cause}") from cause
    except ValueError as cause:
        raise ConfigError(f"{name}: {cause}") from cause
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: not a list of keys and values", "write one per line, as in steps: 500")
    return values


def read(text: str, form: str) -> object:
    """What a text says, in its format."""
    if form == "yaml":
        return yaml.load(text, Loader=_Loader)
    return tomllib.loads(text) if form == "toml" else json.loads(text)


def says(text: str, form: str, values: dict[str, Any]) -> bool:
    """Whether a text says this."""
    try:
        return read(text, form) == values
    except (yaml.YAMLError, ValueError):
        return False


def edited_yaml(text: str, changes: dict[str, Any]) -> str | None:
    """The text with the changes, every line where it was."""
    root = yaml.compose(text, Loader=_Loader)
    if root is None:
        return text + "".join(f"\n{key}: {_inline(value)}\n" for key, value in changes.items())
    if not isinstance(root, yaml.MappingNode):
        return None
    edits: list[tuple[int, int, str]] = []
    known = {key.value: value for key, value in root.value}
    for key, value in changes.items():
        if (node := known.get(key)) is not None:
            start, end = node.start_mark.index, node.end_mark.index
            edits.append((start, end, f" {_inline(value)}" + "\n" * text.count("\n", start, end)))
        elif root.flow_style:
            edits.append((root.start_mark.index + 1, root.start_mark.index + 1, f"{key}: {_inline(value)}, "))
        else:
            at = root.end_mark.index
            line = f"{' ' * root.start_mark.column}{key}: {_inline(value)}\n"
            edits.append((at, at, line if text[:at].endswith("\n") else f"\n{line}"))
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def edited_toml(text: str, changes: dict[str, Any]) -> str | None:
    """The text with the changes, every line where it was; none where a line would have to be added above others."""
    head_end = re.search(r"^\s*\[", text, re.MULTILINE)
    head, tail = (text[: head_end.start()], text[head_end.start() :]) if head_end else (text, "")
    for key, value in changes.items():
        if isinstance(value, Mapping):
            lines = [f"{inner} = {_inline(setting)}" for inner, setting in value.items()]
            tail += "\n".join(["", f"[{key}]", *lines, ""])
            continue
        line = f"{key} = {_inline(value)}".replace("\\", r"\\")
        head, found = re.subn(rf"^[ \t]*{re.escape(key)}[ \t]*=.*$", line, head, count=1, flags=re.MULTILINE)
        if not found:
            return None
    return head + tail


def _inline(value: Any) -> str:
    """As JSON, which YAML reads too, and of plain values also TOML."""
    return json.dumps(value, ensure_ascii=False)
