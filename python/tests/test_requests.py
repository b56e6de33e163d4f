"""What is asked, how often, and what is made of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import KEY, a_client, a_job, problem
from zoo_compute import (
    AsyncClient,
    Client,
    ConfigError,
    JobCancelledError,
    JobFailedError,
    JobState,
    NoKeyError,
    ProblemError,
    RefusedError,
    UnexpectedAnswerError,
    UnreachableError,
    ZooError,
    errors,
    operations,
)


def test_every_kind_of_problem_has_its_class() -> None:
    for kind, wanted in errors._KINDS.items():
        with pytest.raises(wanted) as error:
            a_client(lambda _, kind=kind: problem(422, kind, "the thing, the cause", "do that")).job("x")  # type: ignore[misc]
        assert (error.value.kind, error.value.status, error.value.detail) == (kind, 422, "the thing, the cause")
        if kind != "no-key":
            assert str(error.value) == "the thing, the cause\nhint: do that"
    with pytest.raises(ProblemError) as error:
        a_client(lambda _: problem(418, "teapot", "short and stout")).job("x")
    assert type(error.value) is ProblemError
    assert (error.value.hint, str(error.value)) == (None, "short and stout")


def test_who_has_no_key_is_told_how_python_is_given_one() -> None:
    with pytest.raises(NoKeyError) as error:
        a_client(lambda _: problem(401, "no-key", "this needs a key", "send the header")).train({})
    assert error.value.hint is not None and "ZOO_API_KEY" in error.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b"<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"status": 1, "version": "x"}),
        httpx.Response(200, json={"version": "x"}),
        httpx.Response(302, headers={"location": "http://elsewhere.test/"}),
        httpx.Response(500, content=b"oops"),
        httpx.Response(200, json=a_job(state="dancing")),
    ],
)
def test_what_is_no_orchestrator_is_said_to_be_none(answer: httpx.Response) -> None:
    client = a_client(lambda _: answer)
    with pytest.raises(UnexpectedAnswerError):
        if b"dancing" in answer.content:
            client.job("x")
        else:
            client.health()


class Server:
    """Answers with what it was given, one after the other; exceptions are raised."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer


def away() -> list[httpx.Response | httpx.TransportError]:
    """Three ways not to answer."""
    return [httpx.ConnectError("refused"), httpx.ReadError("cut"), problem(503, "unavailable", "stopping")]


def test_a_job_is_submitted_again_under_the_same_key_until_there_is_an_answer() -> None:
    server = Server(*away(), httpx.Response(201, json=a_job()))
    job = a_client(server).train({"preset": "qwen3-tiny"}, max_budget=5000, name="one")
    assert (job.id, job.state, job.name, job.is_over) == ("ab" * 32, JobState.RUNNING, "my-model", False)
    assert len({request.headers["idempotency-key"] for request in server.asked}) == 1
    assert json.loads(server.asked[-1].content) == {"preset": "qwen3-tiny", "budget": {"max": 5000}, "run": "one"}
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    another = Server(httpx.Response(201, json=a_job()))
    a_client(another).train({})
    assert another.asked[0].headers["idempotency-key"] != server.asked[0].headers["idempotency-key"]


async def test_and_so_it_is_with_an_event_loop() -> None:
    server = Server(*away(), httpx.Response(201, json=a_job()))
    async with AsyncClient(KEY, "http://zoo.test", transport=httpx.MockTransport(server)) as client:
        job = await client.train({"preset": "qwen3-tiny"})
        assert job.id == "ab" * 32
    assert len(server.asked) == 4


def test_what_may_have_been_done_is_not_asked_again() -> None:
    server = Server(httpx.Response(200, json=a_job()), httpx.ReadError("cut"))
    job = a_client(server).job("ab" * 32)
    with pytest.raises(UnreachableError):
        job.cancel()
    # What was never sent was not done.
    server.answers = [httpx.ConnectError("refused"), httpx.Response(200, json=a_job(state="paused"))]
    assert job.pause().state is JobState.PAUSED
    assert server.asked[-1].url.path == f"/v1/jobs/{'ab' * 32}/pause"


def test_who_never_answers_is_given_up() -> None:
    server = Server(*[httpx.ConnectError("refused")] * 5)
    with pytest.raises(UnreachableError) as error:
        a_client(server).health()
    assert "zoo up" in str(error.value.hint)
    assert server.answers == []


def test_pages_are_put_together() -> None:
    one, other, last = (a_job(id=letter * 64) for letter in "abc")

    def server(request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        match request.url.path, asked:
            case "/v1/jobs", {"cursor": "7"}:
                return httpx.Response(200, json={"jobs": [last], "next": None})
            case "/v1/jobs", {"limit": "2"}:
                return httpx.Response(200, json={"jobs": [one, other], "next": 7})
            case "/v1/jobs", {"state": "paused"}:
                return httpx.Response(200, json={"jobs": [other], "next": None})
            case "/v1/jobs", _:
                return httpx.Response(200, json={"jobs": [one, other], "next": 7})
            case _, {"from": "0"}:
                return httpx.Response(200, json={"rounds": [a_round(0), a_round(1)], "next": 2})
            case _, {"from": "2"}:
                return httpx.Response(200, json={"rounds": [a_round(2)]})
            case _:
                return httpx.Response(200, json=one)

    client = a_client(server)
    assert [job.id[0] for job in client.jobs()] == ["a", "b", "c"]
    assert [job.id[0] for job in client.jobs(limit=2)] == ["a", "b"]
    assert [job.id[0] for job in client.jobs(JobState.PAUSED)] == ["b"]
    table = client.job("a").metrics()
    assert table.column("round") == [0, 1, 2]
    assert table[1]["loss"] == 2.5


def a_round(at: int) -> dict[str, Any]:
    counted = {"starts": 1, "started_ms": 5, "participants": 2, "contributed": 2, "missed": 0, "tokens": 64, "bytes": 9}
    return {"round": at, **counted, "loss": 2.5}


def test_pages_that_do_not_go_on_are_not_followed_for_ever() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        is_rounds = request.url.path.endswith("rounds")
        return httpx.Response(200, json={"rounds": [a_round(0)], "next": 0} if is_rounds else a_job())

    with pytest.raises(UnexpectedAnswerError):
        a_client(server).job("a").metrics()


def test_text_of_this_machine_is_uploaded_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "one.txt").write_text("second")
    (folder / "a.txt").write_text("first")
    config = tmp_path / "job.yaml"
    config.write_text(f"preset: qwen3-tiny\ndata: {folder}   # here\nsteps: 20\n")
    uploaded: list[bytes] = []
    sent: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/texts":
            uploaded.append(request.read())
            return httpx.Response(201, json={"data": f"text:{len(uploaded)}", "bytes": 6})
        sent.append(request)
        return problem(422, "refused", "line 3: steps: there is no such key", "did you mean step?")

    with pytest.raises(RefusedError) as error:
        a_client(server).train(config)
    assert uploaded == [b"first", b"second"]
    assert sent[0].headers["content-type"] == "application/yaml"
    assert sent[0].read().decode() == 'preset: qwen3-tiny\ndata:  "text:1,text:2"   # here\nsteps: 20\n'
    assert str(error.value) == f"{config}:3: steps: there is no such key\nhint: did you mean step?"


def test_ids_are_no_way_to_another_path() -> None:
    asked: list[bytes] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return problem(404, "not-found", "there is no such job")

    for id in ("../nodes", "a/b", "a?limit=1", "a#b"):
        with pytest.raises(ZooError):
            a_client(server).job(id)
    assert asked == [b"/v1/jobs/..%2Fnodes", b"/v1/jobs/a%2Fb", b"/v1/jobs/a%3Flimit%3D1", b"/v1/jobs/a%23b"]


@pytest.mark.parametrize(("state", "wanted"), [("failed", JobFailedError), ("cancelled", JobCancelledError)])
def test_a_job_that_ended_badly_raises(state: str, wanted: type[Exception]) -> None:
    client = a_client(lambda _: httpx.Response(200, json=a_job(state=state, why="nobody could train it")))
    with pytest.raises(wanted):
        client.job("a").result(progress=False)


def test_a_job_that_is_over_is_not_waited_for() -> None:
    client = a_client(lambda _: httpx.Response(200, json=a_job(state="budget_used", why="its budget is used up")))
    assert client.job("a").result(progress=False).state is JobState.BUDGET_USED


class Restarting:
    """A server that is away for a while whenever it is asked for the job after something happened."""

    def __init__(self) -> None:
        self.looks = 0
        self.watches = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            self.watches += 1
            first, last = (1, 2) if self.watches == 1 else (2, 3)
            kinds = {1: "round_finished", 2: "round_finished", 3: "job_finished"}
            lines = (
                f'id: {at}\nevent: {kinds[at]}\ndata: {{"at_ms": 1, "job": "a"}}\n\n' for at in range(first, last + 1)
            )
            return httpx.Response(200, content="".join(lines).encode())
        self.looks += 1
        if 3 <= self.looks <= 20:
            raise httpx.ReadError("cut")
        return httpx.Response(200, json=a_job(state="running" if self.looks <= 2 else "finished"))


def test_waiting_outlasts_an_orchestrator_that_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PAUSE_MAX_S", 0.001)
    monkeypatch.setattr("zoo_compute.job.LOOK_EVERY_S", 0.0)
    server = Restarting()
    assert a_client(server).job("a").result(progress=False, timeout=10).state is JobState.FINISHED
    assert server.looks > 20 and server.watches == 2


async def test_and_so_does_waiting_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "PAUSE_MAX_S", 0.001)
    monkeypatch.setattr("zoo_compute.job.LOOK_EVERY_S", 0.0)
    server = Restarting()
    async with AsyncClient(KEY, "http://zoo.test", transport=httpx.MockTransport(server)) as client:
        assert (await (await client.job("a")).wait(progress=False, timeout=10)).state is JobState.FINISHED
    assert server.watches == 2


def test_settings_come_from_the_environment_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Client().url == "http://127.0.0.1:4080"
    monkeypatch.setenv("ZOO_URL", "https://zoo.test/")
    monkeypatch.setenv("ZOO_API_KEY", KEY)
    client = Client(api_key=...)
    assert client.url == "https://zoo.test"
    assert client._settings.api_key == KEY
    assert KEY not in repr(client) and KEY not in repr(client._settings)
    assert Client("other", "http://other.test")._settings.api_key == "other"


@pytest.mark.parametrize(
    ("key", "url"), [(None, "zoo.test"), (None, "ftp://zoo.test"), ("k\n", None), (None, "http://")]
)
def test_settings_that_cannot_be_are_refused(key: str | None, url: str | None) -> None:
    with pytest.raises(ConfigError):
        Client(key, url)
