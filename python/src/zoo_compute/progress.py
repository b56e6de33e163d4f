"""How far a job is, where people look: one line on a terminal, lines elsewhere, HTML in a notebook.

IPython is not needed. Where a notebook runs, it is there already.
"""

from __future__ import annotations

import shutil
import sys
import time
from abc import ABC, abstractmethod
from html import escape
from typing import Any, TextIO

from .models import Job

BAR_CELLS = 20
# Without a terminal, a line so often.
LINE_EVERY_S = 10.0


class Progress(ABC):
    """Shows a job as it goes on."""

    @abstractmethod
    def show(self, job: Job) -> None:
        """The job, as it is now."""

    def end(self, job: Job) -> None:
        """The job, as it has become."""
        self.show(job)

    @abstractmethod
    def say(self, text: str) -> None:
        """Something that is no progress."""


class Silent(Progress):
    """Shows nothing."""

    def show(self, job: Job) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class Terminal(Progress):
    """One line that is written over."""

    def __init__(self, stream: TextIO) -> None:
        """Of this terminal."""
        self._stream = stream

    def show(self, job: Job) -> None:
        """In the width that there is."""
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line(job)[:width]}\x1b[K")
        self._stream.flush()

    def end(self, job: Job) -> None:
        """The line stays."""
        self.show(job)
        self._stream.write("\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Below the line."""
        self._stream.write(f"\n{text}\n")
        self._stream.flush()


class Lines(Progress):
    """A line now and then, and when the job stands elsewhere."""

    def __init__(self, stream: TextIO, every_s: float = LINE_EVERY_S) -> None:
        """Of this stream."""
        self._stream, self._every_s = stream, every_s
        self._shown: tuple[float, Job] | None = None

    def show(self, job: Job) -> None:
        """If it is time."""
        now_s = time.monotonic()
        if self._shown is None or self._shown[1].state != job.state or now_s - self._shown[0] >= self._every_s:
            self._shown = (now_s, job)
            self.say(line(job))

    def end(self, job: Job) -> None:
        """Once."""
        if self._shown is None or self._shown[1] != job:
            self.say(line(job))

    def say(self, text: str) -> None:
        """A line."""
        print(text, file=self._stream, flush=True)


class Notebook(Progress):
    """A cell's output that is replaced."""

    def __init__(self, display: Any) -> None:
        """With IPython's `display`."""
        self._display = display
        self._handle: Any = None

    def show(self, job: Job) -> None:
        """In place of what was shown before."""
        if self._handle is None:
            self._handle = self._display(Shown(job), display_id=True)
        else:
            self._handle.update(Shown(job))

    def say(self, text: str) -> None:
        """Below."""
        print(text)


class Shown:
    """A job as notebooks show it."""

    def __init__(self, job: Job) -> None:
        """This one."""
        self._job = job

    def __repr__(self) -> str:
        """As text, where there is no HTML."""
        return line(self._job)

    def _repr_html_(self) -> str:
        job = self._job
        said = "".join(f"<span style='margin-right:1.5em'>{escape(part)}</span>" for part in parts(job)[1:])
        return (
            f"<div><b>{escape(parts(job)[0])}</b> "
            f"<progress max='{max(job.of_steps, 1)}' value='{min(job.steps, job.of_steps)}'></progress></div>"
            f"<div>{said}</div>"
        )


def shown(is_wanted: bool) -> Progress:
    """What suits the place where this runs."""
    if not is_wanted:
        return Silent()
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and type(shell).__name__ == "ZMQInteractiveShell":
        from IPython.display import display

        return Notebook(display)
    return Terminal(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)


def line(job: Job) -> str:
    """A job in one line."""
    name, state, *rest = parts(job)
    done = round(BAR_CELLS * min(job.steps, job.of_steps) / max(job.of_steps, 1))
    return "  ".join([name, state, f"[{'#' * done}{'.' * (BAR_CELLS - done)}]", *rest])


def parts(job: Job) -> list[str]:
    """What is said of a job: its name, where it stands, and what has been measured."""
    # A name is anybody's words; a terminal obeys some that cannot be seen.
    name = "".join(letter if letter.isprintable() else "?" for letter in job.name)
    of_rounds = "" if job.of_rounds is None else f"/{job.of_rounds}"
    said = [
        name,
        job.state.value.replace("_", " "),
        f"step {job.steps}/{job.of_steps}",
        f"round {job.rounds}{of_rounds}",
    ]
    if job.loss is not None:
        said.append(f"loss {job.loss:.3f}")
    if job.bits_per_byte is not None:
        said.append(f"{job.bits_per_byte:.3f} bits/byte")
    if job.tokens_per_second is not None:
        said.append(f"{job.tokens_per_second:,.0f} tokens/s")
    if job.done_ms is not None:
        said.append(f"about {_duration(job.done_ms / 1000 - time.time())} left")
    return said


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
