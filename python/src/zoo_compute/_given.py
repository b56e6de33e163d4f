"""Reads the objects of JSON answers into typed values; what does not fit is an error with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .errors import UnexpectedAnswerError

T = TypeVar("T")


def text(value: object) -> str:
    """A text."""
    if isinstance(value, str):
        return value
    raise TypeError("no text")


def whole(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError("no whole number")


def number(value: object) -> float:
    """A number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TypeError("no number")


def mapping(value: object) -> dict[str, object]:
    """An object, whatever is in it."""
    if isinstance(value, dict):
        return value
    raise TypeError("no object")


def flag(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise TypeError("neither true nor false")


class Given:
    """The fields of an object that a server sent. Those that nobody asks for are ignored: newer servers send more."""

    def __init__(self, answer: object, what: str) -> None:
        """The answer, which is to be a `what`."""
        self._what = what
        if not isinstance(answer, dict):
            raise self._unexpected("not an object")
        self._fields: dict[str, object] = answer

    def one(self, key: str, read: Callable[[object], T]) -> T:
        """The value of a field that is always there."""
        if key not in self._fields:
            raise self._unexpected(f"{key} is missing")
        try:
            return read(self._fields[key])
        except (TypeError, ValueError) as cause:
            raise self._unexpected(f"{key}: {cause}") from cause

    def maybe(self, key: str, read: Callable[[object], T]) -> T | None:
        """The value of a field that may be missing or null."""
        return None if self._fields.get(key) is None else self.one(key, read)

    def each(self, key: str, read: Callable[[object], T]) -> tuple[T, ...]:
        """The values of a field that is a list."""
        return self.one(key, lambda value: _each(value, read))

    def maybe_each(self, key: str, read: Callable[[object], T]) -> tuple[T, ...] | None:
        """The values of a field that is a list, or missing, or null."""
        return self.maybe(key, lambda value: _each(value, read))

    def _unexpected(self, cause: str) -> UnexpectedAnswerError:
        hint = "the orchestrator may be of another version: pip install --upgrade zoo-compute"
        return UnexpectedAnswerError(f"the answer is no {self._what}: {cause}", hint)


def _each(value: object, read: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return tuple(read(item) for item in value)
