"""`Client` and `AsyncClient`: the same operations, in the calling thread or in an event loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import EllipsisType, TracebackType

import httpx

from . import models, operations
from .events import Event, Watch
from .job import AsyncJob, Job
from .job_config import CheckpointConfig, ComputeJob, Config, JobDocument
from .transport import Asynchronous, Blocking, Settings

Path_ = str | os.PathLike[str]
TIMEOUT_S = 30.0


class _Configured:
    """Whom a client asks."""

    def __init__(self, api_key: str | EllipsisType | None, url: str | None, timeout: float) -> None:
        self._settings = Settings.of(None if api_key is ... else api_key, url, timeout)

    @property
    def url(self) -> str:
        """Where the orchestrator is."""
        return self._settings.url

    def __repr__(self) -> str:
        """Without the key."""
        return f"{type(self).__name__}(url={self.url!r})"


class Client(_Configured):
    """An orchestrator's HTTP interface, for programs that wait for each answer.

    `api_key` and `url` come from `ZOO_API_KEY` and `ZOO_URL` unless they are given (`...` and `None` are not); without
    any `url` it is the orchestrator of this machine. Looking needs no key, unless the orchestrator wants one. `timeout`
    is for the answer to one question, in seconds. Close it, or use it as a context manager, to end its connections.
    """

    def __init__(
        self,
        api_key: str | EllipsisType | None = None,
        url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Asks nothing yet."""
        super().__init__(api_key, url, timeout)
        self._transport = Blocking(self._settings, transport)

    def train(
        self,
        config: Config | None = None,
        *,
        data: Path_ | None = None,
        name: str | None = None,
        max_budget: float | None = None,
        checkpoint: CheckpointConfig | None = None,
    ) -> Job:
        """Submits a job: a mapping, or a YAML, TOML or JSON file, with the keys of docs/model-builder.md.

        `data`, here or in the configuration, may be a file or a folder of this machine, which is uploaded. `max_budget`
        is in units of verified work, 10^15 floating-point operations: the job ends after the round in which they are
        used up.
        """
        document = _document(config, data, name, max_budget, checkpoint)
        return self._job(_warned(self._transport.run(operations.submit(document))))

    def submit(self, job: ComputeJob) -> Job:
        """Submits a job that was described in parts."""
        document = job.document()
        return self._job(_warned(self._transport.run(operations.submit(document))))

    def upload(self, text: str | bytes | Path) -> models.Text:
        """Uploads a text, or the file at a `Path`; a job's `data` names it by what comes back as `data`."""
        return self._transport.run(operations.upload(text))

    def job(self, id: str) -> Job:
        """The job with this id."""
        return self._job(self._transport.run(operations.job(id)))

    def jobs(self, state: models.JobState | None = None, limit: int | None = None) -> list[Job]:
        """The jobs, the newest first."""
        return [self._job(info) for info in self._transport.run(operations.jobs(state, limit))]

    def nodes(self, live: bool | None = None) -> list[models.Node]:
        """The nodes: all that ever joined, or those that are (or are not) here."""
        return self._transport.run(operations.nodes(live))

    def node(self, id: str) -> models.Node:
        """The node with this id."""
        return self._transport.run(operations.node(id))

    def checkpoints(self) -> list[models.Checkpoint]:
        """The checkpoints that nodes keep."""
        return self._transport.run(operations.checkpoints())

    def health(self) -> models.Health:
        """Whether the orchestrator works, and which version it is of."""
        return self._transport.run(operations.health())

    def events(self, after: int | None = None, *, kinds: Iterable[str] | None = None) -> Iterator[Event]:
        """Everything that happens, from the first event on or after number `after`; with `kinds`
        (`round_finished`, ...) events of these alone. It has no end."""
        return self._transport.watch(Watch(operations.events_path(kinds), after=after))

    def close(self) -> None:
        """Ends its connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closes it."""
        self.close()

    def _job(self, info: models.Job) -> Job:
        return Job(self._transport, self._settings, info)


class AsyncClient(_Configured):
    """An orchestrator's HTTP interface, for programs with an event loop. Everything is as in `Client`, and awaited."""

    def __init__(
        self,
        api_key: str | EllipsisType | None = None,
        url: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Asks nothing yet."""
        super().__init__(api_key, url, timeout)
        self._transport = Asynchronous(self._settings, transport)

    async def train(
        self,
        config: Config | None = None,
        *,
        data: Path_ | None = None,
        name: str | None = None,
        max_budget: float | None = None,
        checkpoint: CheckpointConfig | None = None,
    ) -> AsyncJob:
        """Submits a job: see `Client.train`."""
        document = _document(config, data, name, max_budget, checkpoint)
        return self._job(_warned(await self._transport.run(operations.submit(document))))

    async def submit(self, job: ComputeJob) -> AsyncJob:
        """Submits a job that was described in parts."""
        document = job.document()
        return self._job(_warned(await self._transport.run(operations.submit(document))))

    async def upload(self, text: str | bytes | Path) -> models.Text:
        """Uploads a text, or the file at a `Path`."""
        return await self._transport.run(operations.upload(text))

    async def job(self, id: str) -> AsyncJob:
        """The job with this id."""
        return self._job(await self._transport.run(operations.job(id)))

    async def jobs(self, state: models.JobState | None = None, limit: int | None = None) -> list[AsyncJob]:
        """The jobs, the newest first."""
        return [self._job(info) for info in await self._transport.run(operations.jobs(state, limit))]

    async def nodes(self, live: bool | None = None) -> list[models.Node]:
        """The nodes."""
        return await self._transport.run(operations.nodes(live))

    async def node(self, id: str) -> models.Node:
        """The node with this id."""
        return await self._transport.run(operations.node(id))

    async def checkpoints(self) -> list[models.Checkpoint]:
        """The checkpoints that nodes keep."""
        return await self._transport.run(operations.checkpoints())

    async def health(self) -> models.Health:
        """Whether the orchestrator works."""
        return await self._transport.run(operations.health())

    def events(self, after: int | None = None, *, kinds: Iterable[str] | None = None) -> AsyncIterator[Event]:
        """Everything that happens, or what is of these kinds. It has no end."""
        return self._transport.watch(Watch(operations.events_path(kinds), after=after))

    async def close(self) -> None:
        """Ends its connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Closes it."""
        await self.close()

    def _job(self, info: models.Job) -> AsyncJob:
        return AsyncJob(self._transport, info)


class Network:
    """The network that `ZOO_URL` and `ZOO_API_KEY` name when it is used."""

    async def submit(self, job: ComputeJob) -> str:
        """Submits a job and returns its id."""
        async with AsyncClient() as client:
            return (await client.submit(job)).id

    async def wait(self, job_id: str, *, progress: bool = True, timeout: float | None = None) -> models.Job:
        """Waits until the job is over."""
        async with AsyncClient() as client:
            return (await (await client.job(job_id)).wait(progress=progress, timeout=timeout)).info

    async def download(self, job_id: str, folder: Path_ | None = None) -> Path:
        """The job's model as a folder."""
        async with AsyncClient() as client:
            return await (await client.job(job_id)).download(folder)


def _warned(job: models.Job) -> models.Job:
    """The job, after a word on what nobody can do for it yet."""
    if job.storage_missing is not None:
        warnings.warn(
            f"no node stores checkpoints in {job.storage_missing} yet, so others keep them: "
            f"`zoo join --storage {job.storage_missing}:...` starts one that does",
            UserWarning,
            stacklevel=3,
        )
    return job


def _document(
    config: Config | None,
    data: Path_ | None,
    name: str | None,
    max_budget: float | None,
    checkpoint: CheckpointConfig | None,
) -> JobDocument:
    document = JobDocument.read({} if config is None else config)
    return document.changed(data=data, name=name, max_budget=max_budget, checkpoint=checkpoint)
