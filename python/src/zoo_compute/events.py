"""What happens, as it happens: server-sent events, read so that a lost connection misses nothing.

Every event has a number. Who connects again names the last one that it has, and gets those after it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from .errors import UnexpectedAnswerError, UnreachableError

# The kinds of event after which a job has no others.
ENDS = frozenset({"job_finished", "job_failed", "job_stopped"})
# Largest event, bytes.
EVENT_BYTES_MAX = 16 << 20
# A stream of events has a sign of life every ten seconds; longer silence is a lost connection.
SILENCE_MAX_S = 35.0
# Nobody answering is borne for so long.
PATIENCE_S = 120.0
# Between attempts to connect again: at first, and at most, seconds.
PAUSE_S = 0.2
PAUSE_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""

    id: int
    """Its place in the order of events."""
    kind: str
    """What, such as `round_finished`."""
    at_ms: int
    """When, ms since the Unix epoch by the orchestrator's clock."""
    job: str | None
    """The job that it is about, if it is about one."""
    data: Mapping[str, Any]
    """Everything that is said of it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as it was sent, not yet understood."""

    id: str
    kind: str
    text: str


class EventParser:
    """Bytes in, events out, wherever the bytes were cut."""

    def __init__(self) -> None:
        """Before the first byte."""
        self._line = bytearray()
        self._data: list[str] = []
        self._bytes = 0
        self._id = ""
        self._kind = ""
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[Sent]:
        """The events that are whole now."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            sent = self._end_line(bytes(self._line + line))
            self._line.clear()
            if sent is not None:
                yield sent
        self._line += lines[-1]
        if len(self._line) + self._bytes > EVENT_BYTES_MAX:
            raise UnexpectedAnswerError(f"an event has more than {EVENT_BYTES_MAX} bytes")

    def _end_line(self, line: bytes) -> Sent | None:
        if not line:
            sent = Sent(self._id, self._kind, "\n".join(self._data)) if self._data else None
            self._data, self._kind, self._bytes = [], "", 0
            return sent
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._bytes += len(line)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None


class Watch:
    """A watch over events that survives its connections. It opens none: it says what to ask for, and hears what
    came."""

    def __init__(
        self, path: str, *, after: int | None = None, until_over: bool = False, timeout_s: float | None = None
    ) -> None:
        """All events at `path` after number `after`; `until_over` ends with the job, and after `timeout_s` it is too
        late."""
        self.path = path
        self.is_over = False
        self._last = after
        self._until_over = until_over
        self._ends_s = None if timeout_s is None else monotonic() + timeout_s
        self._parser = EventParser()
        self._heard_s = monotonic()
        self._pause_s = PAUSE_S

    def headers(self) -> dict[str, str]:
        """What to ask with."""
        self._parser = EventParser()
        last = {} if self._last is None else {"Last-Event-ID": str(self._last)}
        return {"Accept": "text/event-stream", **last}

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that came. What came before, and what comes after the end, is left out."""
        self._heard_s, self._pause_s = monotonic(), PAUSE_S
        for sent in self._parser.feed(chunk):
            event = understood(sent)
            if self.is_over or (self._last is not None and event.id <= self._last):
                continue
            self._last = event.id
            self.is_over = self._until_over and event.kind in ENDS
            yield event

    def lost(self, cause: Exception | None = None) -> float:
        """The connection ended: how long to wait before the next attempt, seconds."""
        self.check_time()
        silent_s = monotonic() - self._heard_s
        if silent_s > PATIENCE_S:
            detail = f"no orchestrator answered for {silent_s:.0f} s" + (f": {cause}" if cause else "")
            raise UnreachableError(detail, "the job goes on if the orchestrator does; watch it again later") from cause
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, PAUSE_MAX_S)
        return min(pause_s, self._left_s())

    def silence_s(self) -> float:
        """After so long without a sign of life the connection is lost, seconds."""
        return min(SILENCE_MAX_S, self._left_s() + 0.01)

    def check_time(self) -> None:
        """Raises `TimeoutError` when it is too late."""
        if self._left_s() == 0:
            raise TimeoutError("the job is not over yet, and goes on")

    def _left_s(self) -> float:
        return SILENCE_MAX_S if self._ends_s is None else max(0.0, self._ends_s - monotonic())


def understood(sent: Sent) -> Event:
    """The event that the orchestrator meant."""
    try:
        data = json.loads(sent.text)
        number, at_ms, job = int(sent.id), data["at_ms"], data.get("job")
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise UnexpectedAnswerError(f"not an event of an orchestrator: {sent.text[:100]!r}") from cause
    return Event(number, sent.kind, at_ms, job if isinstance(job, str) else None, data)
