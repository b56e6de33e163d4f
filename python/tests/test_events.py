"""Server-sent events, however they are cut, and watches that survive their connections."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from conftest import KEY, a_client, problem
from zoo_compute import AsyncClient, Event, NotFoundError, UnexpectedAnswerError, UnreachableError, events
from zoo_compute.events import EventParser, Sent, Watch

STREAM = (
    ": alive\n\n"
    "id: 3\nevent: job_accepted\ndata: {}\n\n"
    "retry: 5\n\n"
    'id:4\r\nevent:two lines\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    "id: 5\revent: späť\rdata: x\r\r"
    "event: without data\n\n"
    "data: no kind: and a colon\n\n"
)
MEANT = [
    Sent("3", "job_accepted", "{}"),
    Sent("4", "two lines", '{"a":\n1}'),
    Sent("5", "späť", "x"),
    Sent("5", "", "no kind: and a colon"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_events_are_the_same_wherever_the_bytes_are_cut(size: int) -> None:
    parser, stream = EventParser(), STREAM.encode()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [sent for chunk in chunks for sent in parser.feed(chunk)] == MEANT


def test_an_event_without_its_last_line_is_not_heard() -> None:
    assert list(EventParser().feed(b"id: 1\ndata: {}\n")) == []


def test_an_event_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_BYTES_MAX", 100)
    for chunk in (b"data: " + b"x" * 101, b"data: 1234567890\n" * 20 + b"d"):
        with pytest.raises(UnexpectedAnswerError):
            list(EventParser().feed(chunk))


def sent(number: int, kind: str = "round_finished") -> bytes:
    data = json.dumps({"at_ms": 1000 + number, "event": kind, "job": "ab", "round": number})
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()


def test_a_watch_leaves_out_what_it_has_and_what_comes_after_the_end() -> None:
    watch = Watch("/", after=1, until_over=True)
    heard = list(watch.feed(sent(1) + sent(2) + sent(2) + sent(3, "job_finished") + sent(4)))
    assert [(event.id, event.kind, event.at_ms, event.job) for event in heard] == [
        (2, "round_finished", 1002, "ab"),
        (3, "job_finished", 1003, "ab"),
    ]
    assert heard[0].data["round"] == 2
    assert watch.is_over


@pytest.mark.parametrize("text", ["id: x\ndata: {}\n\n", "id: 1\ndata: {}\n\n", "id: 1\ndata: []\n\n", "data: {\n\n"])
def test_what_is_no_event_of_an_orchestrator_is_an_error(text: str) -> None:
    with pytest.raises(UnexpectedAnswerError):
        list(Watch("/").feed(text.encode()))


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """An answer whose connection breaks."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        raise httpx.ReadError("cut")


class Flaky:
    """A server that breaks off within an event, is away, cannot be reached, ends early, and goes on each time."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("last-event-id"))
        match len(self.asked):
            case 1:
                return httpx.Response(200, stream=Cut(sent(7), sent(8)[:20]))
            case 2:
                return problem(503, "unavailable", "the orchestrator is stopping")
            case 3:
                raise httpx.ConnectError("refused")
            case 4:
                return httpx.Response(200, content=sent(8))
            case _:
                return httpx.Response(200, content=sent(9) + sent(10, "job_stopped"))


EVERYTHING = [7, 8, 9, 10]
ASKED = [None, "7", "7", "7", "8"]


def test_a_watcher_that_loses_its_connection_misses_nothing() -> None:
    server = Flaky()
    watch = Watch("/v1/jobs/ab/events", until_over=True)
    heard: list[Event] = list(a_client(server)._transport.watch(watch))
    assert [event.id for event in heard] == EVERYTHING
    assert server.asked == ASKED


async def test_nor_does_one_with_an_event_loop() -> None:
    server = Flaky()
    async with AsyncClient(KEY, "http://zoo.test", transport=httpx.MockTransport(server)) as client:
        watch = Watch("/v1/jobs/ab/events", until_over=True)
        assert [event.id async for event in client._transport.watch(watch)] == EVERYTHING
    assert server.asked == ASKED


def test_a_watcher_is_told_what_it_cannot_watch() -> None:
    with pytest.raises(NotFoundError) as error:
        next(a_client(lambda _: problem(404, "not-found", "there is no job", "GET /v1/jobs lists them")).events())
    assert error.value.hint == "GET /v1/jobs lists them"
    with pytest.raises(UnexpectedAnswerError):
        next(a_client(lambda _: httpx.Response(204)).events())


def test_a_watcher_gives_up_on_who_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(events, "PATIENCE_S", 0.05)
    with pytest.raises(UnreachableError, match="no orchestrator answered"):
        next(a_client(unreachable).events())


def test_a_watch_has_an_end_in_time() -> None:
    watch = Watch("/", timeout_s=0.0)
    with pytest.raises(TimeoutError):
        watch.check_time()
    with pytest.raises(TimeoutError):
        watch.lost()
    assert Watch("/", timeout_s=2.0).silence_s() < 3.0
    assert Watch("/").silence_s() > 30.0
