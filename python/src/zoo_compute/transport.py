"""How requests travel: operations say what to ask, and one of two drivers asks it.

An operation (`operations.py`) is a generator that yields steps and is sent what came of them. `Blocking` performs the
steps in the calling thread, `Asynchronous` in an event loop; neither knows what an operation is for.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
import weakref
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from .answers import AWAY, Answer
from .errors import ConfigError, UnexpectedAnswerError
from .events import Event, Watch

DEFAULT_URL = "http://127.0.0.1:4080"
CHUNK_BYTES = 1 << 20
# Largest answer that is not a file, bytes.
ANSWER_BYTES_MAX = 256 << 20

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to ask."""

    method: str
    path: str
    query: Mapping[str, str | int | bool] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Path | None = None
    """A body, or the file that it is in."""
    may_repeat: bool = False
    """Whether asking twice does no more than asking once."""
    takes_s: float | None = None
    """The answer may take so long; none: as long as any."""
    attempts: int = 5
    """Whoever does not answer is asked so often, with pauses that double."""


@dataclass(frozen=True, kw_only=True)
class Save:
    """A request whose answer goes into a file."""

    request: Request
    path: Path
    bytes_max: int


@dataclass(frozen=True)
class Pause:
    """Time that passes."""

    seconds: float


class LostError(Exception):
    """No answer came. Operations decide what that means."""

    def __init__(self, cause: httpx.TransportError) -> None:
        """Why."""
        super().__init__(str(cause) or type(cause).__name__)
        self.is_unsent = isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


Step = Request | Save | Pause
Steps = Generator[Step, Any, T]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whom to ask, and as whom."""

    url: str
    api_key: str | None = field(repr=False)
    timeout_s: float = 30.0

    @classmethod
    def of(cls, api_key: str | None, url: str | None, timeout_s: float) -> Settings:
        """What a program says, else `ZOO_URL` and `ZOO_API_KEY`."""
        url = (url or os.environ.get("ZOO_URL") or DEFAULT_URL).rstrip("/")
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as cause:
            raise ConfigError(f"{url!r} is no URL: {cause}", f"write one such as {DEFAULT_URL}") from cause
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"{url!r} is no URL of an orchestrator", f"write one such as {DEFAULT_URL}")
        key = api_key or os.environ.get("ZOO_API_KEY") or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ConfigError("the API key has characters that no key has", "zoo keys create makes one")
        return cls(url=url, api_key=key, timeout_s=timeout_s)

    def of_httpx(self) -> dict[str, Any]:
        """The same, as httpx takes it."""
        headers = {"User-Agent": "zoo-compute"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # Proxies are for other machines.
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": self.timeout_s,
            "trust_env": not _is_this_machine(httpx.URL(self.url).host),
        }


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Blocking:
    """Performs steps in the calling thread."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` stands in for the network, for tests."""
        self._http = httpx.Client(**settings.of_httpx(), transport=transport)
        # Who closes nothing leaves nothing open.
        weakref.finalize(self, self._http.close)

    def run(self, steps: Steps[T]) -> T:
        """Performs an operation."""
        answer: Answer | None = None
        error: LostError | None = None
        try:
            while True:
                step = steps.throw(error) if error else steps.send(answer)
                answer, error = None, None
                try:
                    answer = self._perform(step)
                except httpx.TransportError as cause:
                    error = LostError(cause)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            steps.close()

    def watch(self, watch: Watch) -> Iterator[Event]:
        """The events of a watch, over as many connections as it takes."""
        while not watch.is_over:
            cause: httpx.TransportError | None = None
            try:
                with self._http.stream(
                    "GET", watch.path, headers=watch.headers(), timeout=watch.silence_s()
                ) as response:
                    if response.status_code == httpx.codes.OK:
                        for chunk in response.iter_bytes():
                            yield from watch.feed(chunk)
                            if watch.is_over:
                                return
                            watch.check_time()
                    else:
                        _refuse_watch(_answer(response, response.read()))
            except httpx.TransportError as lost:
                cause = lost
            time.sleep(watch.lost(cause))

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def _perform(self, step: Step) -> Answer | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        request = step.request if isinstance(step, Save) else step
        content = _chunks(request.content) if isinstance(request.content, Path) else request.content
        with self._http.stream(**_of_httpx(request), content=content) as response:
            if isinstance(step, Request) or response.status_code != httpx.codes.OK:
                return _answer(response, b"".join(_bounded(response.iter_bytes())))
            with _File(step) as write:
                for chunk in response.iter_bytes():
                    write(chunk)
            return _answer(response, b"")


class Asynchronous:
    """Performs steps in an event loop."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """`transport` stands in for the network, for tests."""
        self._http = httpx.AsyncClient(**settings.of_httpx(), transport=transport)

    async def run(self, steps: Steps[T]) -> T:
        """Performs an operation."""
        answer: Answer | None = None
        error: LostError | None = None
        try:
            while True:
                step = steps.throw(error) if error else steps.send(answer)
                answer, error = None, None
                try:
                    answer = await self._perform(step)
                except httpx.TransportError as cause:
                    error = LostError(cause)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            steps.close()

    async def watch(self, watch: Watch) -> AsyncIterator[Event]:
        """The events of a watch, over as many connections as it takes."""
        while not watch.is_over:
            cause: httpx.TransportError | None = None
            try:
                request = self._http.stream("GET", watch.path, headers=watch.headers(), timeout=watch.silence_s())
                async with request as response:
                    if response.status_code == httpx.codes.OK:
                        async for chunk in response.aiter_bytes():
                            for event in watch.feed(chunk):
                                yield event
                            if watch.is_over:
                                return
                            watch.check_time()
                    else:
                        _refuse_watch(_answer(response, await response.aread()))
            except httpx.TransportError as lost:
                cause = lost
            await asyncio.sleep(watch.lost(cause))

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def _perform(self, step: Step) -> Answer | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        request = step.request if isinstance(step, Save) else step
        content = _async_chunks(request.content) if isinstance(request.content, Path) else request.content
        async with self._http.stream(**_of_httpx(request), content=content) as response:
            if isinstance(step, Request) or response.status_code != httpx.codes.OK:
                body, left = bytearray(), ANSWER_BYTES_MAX
                async for chunk in response.aiter_bytes():
                    left = _left(left, chunk)
                    body += chunk
                return _answer(response, bytes(body))
            with _File(step) as write:
                async for chunk in response.aiter_bytes():
                    write(chunk)
            return _answer(response, b"")


def _of_httpx(request: Request) -> dict[str, Any]:
    given: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.query),
        "headers": dict(request.headers),
    }
    return given if request.takes_s is None else {**given, "timeout": request.takes_s}


def _answer(response: httpx.Response, body: bytes) -> Answer:
    kind = response.headers.get("content-type", "").split(";")[0].strip()
    return Answer(response.status_code, body, kind == "application/problem+json")


def _refuse_watch(answer: Answer) -> None:
    """Raises what was said against a watch; whoever is only away for a moment is asked again."""
    if answer.status not in AWAY:
        answer.checked()
        raise UnexpectedAnswerError(f"no events came, but an answer with status {answer.status}")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


async def _async_chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    left = ANSWER_BYTES_MAX
    for chunk in chunks:
        left = _left(left, chunk)
        yield chunk


def _left(left: int, chunk: bytes) -> int:
    if len(chunk) > left:
        raise UnexpectedAnswerError("an answer is larger than any should be, or a file than was said")
    return left - len(chunk)


class _File:
    """The file of a `Save`, which takes as many bytes as were said and no more."""

    def __init__(self, save: Save) -> None:
        self._left = save.bytes_max
        self._file = save.path.open("wb")

    def __enter__(self) -> _File:
        return self

    def __call__(self, chunk: bytes) -> None:
        self._left = _left(self._left, chunk)
        self._file.write(chunk)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
