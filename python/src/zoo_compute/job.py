"""A job that was submitted: watched, waited for, measured, steered, fetched."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

from . import models, operations
from .errors import JobCancelledError, JobFailedError, UnavailableError, UnreachableError
from .events import Event, Watch
from .models import JobState
from .progress import Progress, Shown, line, shown
from .table import Table
from .transport import Asynchronous, Blocking, Settings

OVER = frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED, JobState.BUDGET_USED})
# A job is looked at again so often at most, however much happens.
LOOK_EVERY_S = 0.25


class _Known:
    """What is known of a job, without asking."""

    def __init__(self, info: models.Job) -> None:
        self.info = info

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self.info.name

    @property
    def state(self) -> JobState:
        """Where it stood when it was last asked."""
        return self.info.state

    @property
    def is_over(self) -> bool:
        """Whether it had ended then."""
        return self.info.state in OVER

    def __repr__(self) -> str:
        """In one line."""
        return f"<{type(self).__name__} {self.id[:8]}: {line(self.info)}>"

    def _repr_html_(self) -> str:
        return Shown(self.info)._repr_html_()

    def _path(self) -> str:
        return operations.job_path(self.id, "events")


class Job(_Known):
    """A job, for programs that wait for each answer. `await job.wait()` is for those that have an event loop."""

    def __init__(self, transport: Blocking, settings: Settings, info: models.Job) -> None:
        """What a `Client` returns."""
        super().__init__(info)
        self._transport, self._settings = transport, settings

    def refresh(self) -> Job:
        """Asks where it stands."""
        self.info = self._transport.run(operations.job(self.id))
        return self

    def result(self, *, progress: bool = True, timeout: float | None = None) -> Job:
        """Waits until the job is over, and shows how far it is.

        A job whose budget is used up has a model like one that is finished. One that failed or was cancelled raises a
        `JobError`, and `timeout` seconds without an end a `TimeoutError`. Ctrl-C ends the waiting, not the job.
        """
        waiting = Waiting(self.refresh().info, shown(progress))
        try:
            # What is said can be interrupted, too.
            waiting.progress.show(self.info)
            for _ in () if self.is_over else self._transport.watch(waiting.watch(self._path(), timeout)):
                if waiting.is_time_to_look():
                    with contextlib.suppress(UnreachableError, UnavailableError):
                        waiting.progress.show(self.refresh().info)
        except (KeyboardInterrupt, TimeoutError):
            waiting.leave()
            raise
        self.info = self._transport.run(operations.job(self.id, is_patient=True))
        waiting.end(self.info)
        return self

    async def wait(self, *, progress: bool = True, timeout: float | None = None) -> Job:
        """As `result`, in an event loop."""
        transport = Asynchronous(self._settings)
        try:
            waiting = AsyncJob(transport, self.info)
            try:
                await waiting.wait(progress=progress, timeout=timeout)
            finally:
                self.info = waiting.info
        finally:
            await transport.close()
        return self

    def events(self, after: int | None = None) -> Iterator[Event]:
        """What happens to it, from when it was accepted (or after event number `after`) until it is over."""
        return self._transport.watch(Watch(self._path(), after=after, until_over=True))

    def metrics(self) -> Table:
        """What was measured, a row for each round."""
        return self._transport.run(operations.metrics(self.id))

    def download(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """The newest checkpoint as a folder that Hugging Face's libraries read; by default one with the job's name."""
        return self._transport.run(operations.download(self.id, folder))

    def cancel(self) -> Job:
        """Ends it with the checkpoint that it has."""
        return self._steer("cancel")

    def pause(self) -> Job:
        """Lets the next one run in the meantime. The round that it is in begins again when it is resumed."""
        return self._steer("pause")

    def resume(self) -> Job:
        """Goes on, after the job that runs."""
        return self._steer("resume")

    def _steer(self, verb: str) -> Job:
        self.info = self._transport.run(operations.steer(self.id, verb))
        return self


class AsyncJob(_Known):
    """A job, for programs with an event loop."""

    def __init__(self, transport: Asynchronous, info: models.Job) -> None:
        """What an `AsyncClient` returns."""
        super().__init__(info)
        self._transport = transport

    async def refresh(self) -> AsyncJob:
        """Asks where it stands."""
        self.info = await self._transport.run(operations.job(self.id))
        return self

    async def wait(self, *, progress: bool = True, timeout: float | None = None) -> AsyncJob:
        """Waits until the job is over: see `Job.result`."""
        waiting = Waiting((await self.refresh()).info, shown(progress))
        try:
            waiting.progress.show(self.info)
            if not self.is_over:
                async for _ in self._transport.watch(waiting.watch(self._path(), timeout)):
                    if waiting.is_time_to_look():
                        with contextlib.suppress(UnreachableError, UnavailableError):
                            waiting.progress.show((await self.refresh()).info)
        except (KeyboardInterrupt, TimeoutError, asyncio.CancelledError):
            waiting.leave()
            raise
        self.info = await self._transport.run(operations.job(self.id, is_patient=True))
        waiting.end(self.info)
        return self

    def events(self, after: int | None = None) -> AsyncIterator[Event]:
        """What happens to it, until it is over."""
        return self._transport.watch(Watch(self._path(), after=after, until_over=True))

    async def metrics(self) -> Table:
        """What was measured, a row for each round."""
        return await self._transport.run(operations.metrics(self.id))

    async def download(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """The newest checkpoint as a folder that Hugging Face's libraries read."""
        return await self._transport.run(operations.download(self.id, folder))

    async def cancel(self) -> AsyncJob:
        """Ends it with the checkpoint that it has."""
        return await self._steer("cancel")

    async def pause(self) -> AsyncJob:
        """Lets the next one run in the meantime."""
        return await self._steer("pause")

    async def resume(self) -> AsyncJob:
        """Goes on, after the job that runs."""
        return await self._steer("resume")

    async def _steer(self, verb: str) -> AsyncJob:
        self.info = await self._transport.run(operations.steer(self.id, verb))
        return self


class Waiting:
    """What waiting for a job is, whoever does it."""

    def __init__(self, info: models.Job, progress: Progress) -> None:
        """For this job, shown so."""
        self.progress = progress
        self._id, self._name = info.id, info.name
        self._looked_s = monotonic()

    def watch(self, path: str, timeout_s: float | None) -> Watch:
        """The events to wait for."""
        return Watch(path, until_over=True, timeout_s=timeout_s)

    def is_time_to_look(self) -> bool:
        """Whether the job is to be asked for again, now that something happened."""
        now_s = monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        return True

    def leave(self) -> None:
        """Nobody waits any more."""
        self.progress.say(f"{self._name!r} goes on without this program; Client().job({self._id!r}) finds it again")

    def end(self, info: models.Job) -> None:
        """It is over: well, or with an exception."""
        self.progress.end(info)
        if info.state is JobState.FAILED:
            raise JobFailedError(info, f"job {info.name!r} failed: {info.why}")
        if info.state is JobState.CANCELLED:
            raise JobCancelledError(info, f"job {info.name!r} was cancelled after round {info.rounds}")
