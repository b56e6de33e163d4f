"""Jobs on a network of real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import tiny
from zoo_compute import (
    CheckpointConfig,
    Client,
    ComputeJob,
    ConflictError,
    Event,
    JobCancelledError,
    JobState,
    LocalNetwork,
    NoKeyError,
    NotFoundError,
    ProblemError,
    RefusedError,
    local_network,
)

# Everything here is over within this time, also on a busy machine.
TIMEOUT_S = 120.0


def test_a_job_is_trained_measured_and_fetched(
    zoo: LocalNetwork, text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with zoo.client() as client:
        job = client.train(tiny(text), name="first")
        assert not job.is_over and len(job.id) == 64
        assert job.result(timeout=TIMEOUT_S) is job
        assert (job.state, job.info.steps, job.info.of_steps, job.info.rounds) == (JobState.FINISHED, 12, 12, 3)
        said = capfd.readouterr().err.splitlines()
        assert said[0].startswith("first  ") and "step 0/12" in said[0]
        assert said[-1].startswith("first  finished  [####################]  step 12/12  round 3/3  loss ")
        assert "bits/byte" in said[-1]

        table = job.metrics()
        assert table.column("step") == [4, 8, 12]
        assert sum(table.column("tokens")) == job.info.tokens
        assert all(4.0 < loss < 6.0 for loss in table.column("loss"))
        assert table[-1]["bits_per_byte"] == job.info.bits_per_byte
        frame = pytest.importorskip("pandas").DataFrame(table)
        assert list(frame.columns) == table.columns and frame["step"].max() == 12

        events = list(job.events())
        assert (events[0].kind, events[-1].kind) == ("job_accepted", "job_finished")
        assert {event.job for event in events} == {job.id}
        seen = [event for event in events if event.kind == "round_finished"]
        assert [event.data["step"] for event in seen] == [4, 8, 12]
        assert next(job.events(after=seen[-1].id)).id > seen[-1].id
        first = next(client.events())
        finished = client.events(after=events[0].id, kinds=["round_finished"])
        assert [next(finished).id for _ in seen] == [event.id for event in seen]
        assert next(client.events(after=events[0].id, kinds="job_finished")).id == events[-1].id
        with pytest.raises(ProblemError, match="job_done") as refused:
            next(client.events(kinds=["job_done"]))
        assert "round_finished" in (refused.value.hint or "")
        assert first.id == 0

        assert [found.id for found in client.jobs(JobState.FINISHED) if found.name == "first"] == [job.id]
        assert {node.name for node in client.nodes(live=True)} == {"node-1", "node-2"}
        assert job.info.checkpoint in {checkpoint.digest for checkpoint in client.checkpoints()}

        folder = job.download(tmp_path / "model")
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
        assert json.loads((folder / "config.json").read_text())["model_type"] == "qwen3"
        with pytest.raises(ConflictError):
            job.cancel()


def test_the_model_opens_in_transformers(zoo: LocalNetwork, text: Path, tmp_path: Path) -> None:
    """In this Python, or in the one that ZOO_TRANSFORMERS_PYTHON names."""
    python = os.environ.get("ZOO_TRANSFORMERS_PYTHON")
    if python is None:
        pytest.importorskip("transformers")
        pytest.importorskip("torch")
    job = zoo.client().train(tiny(text, seed=2)).result(progress=False, timeout=TIMEOUT_S)
    program = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = (one.from_pretrained(sys.argv[1]) for one in (AutoModelForCausalLM, AutoTokenizer))\n"
        "tokens = tokenizer('10 green bottles, 100 on the wall', return_tensors='pt')['input_ids']\n"
        "print(model(tokens, labels=tokens).loss.item(), model.num_parameters(), tokenizer.decode(tokens[0]))\n"
    )
    line = [python or sys.executable, "-c", program, str(job.download(tmp_path / "model"))]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loss, parameters, text_again = done.stdout.strip().split(" ", 2)
    assert 4.0 < float(loss) < 6.0
    assert (int(parameters), text_again) == (32_992, "10 green bottles, 100 on the wall")


async def test_everything_works_with_an_event_loop(zoo: LocalNetwork, text: Path, tmp_path: Path) -> None:
    async with zoo.async_client() as client:
        job = await client.submit(ComputeJob(training_config=tiny(text, seed=3), name="async"))
        kinds: list[str] = []

        async def listen() -> None:
            async for event in job.events():
                kinds.append(event.kind)

        listening = asyncio.create_task(listen())
        assert (await job.wait(progress=False, timeout=TIMEOUT_S)).state is JobState.FINISHED
        await asyncio.wait_for(listening, 10)
        assert (kinds[0], kinds[-1], kinds.count("round_finished")) == ("job_accepted", "job_finished", 3)
        assert len(await job.metrics()) == 3
        folder = await job.download(tmp_path / "model")
        assert (folder / "model.safetensors").stat().st_size > 100_000
        assert [found.name for found in await client.jobs(limit=1)] == ["async"]
        assert len(await client.nodes()) == 2
        assert (await client.node((await client.nodes())[0].id)).live


async def test_a_job_of_a_client_without_event_loop_can_be_awaited(zoo: LocalNetwork, text: Path) -> None:
    job = zoo.client().train(tiny(text, seed=4))
    assert await job.wait(progress=False, timeout=TIMEOUT_S) is job
    assert job.state is JobState.FINISHED


def test_a_wrong_key_in_a_file_is_named_with_its_line_and_what_was_meant(
    zoo: LocalNetwork, text: Path, tmp_path: Path
) -> None:
    for name, written in (
        ("job.yaml", f"# mine\npreset: qwen3-tiny\ndata: {text}\ntraining:\n  batch_sequence: 3\n"),
        ("mine.json", f'{{"preset": "qwen3-tiny", "data": "{text}",\n\n\n"training":\n{{"batch_sequence": 3}}}}'),
        ("mine.toml", f'# mine\npreset = "qwen3-tiny"\ndata = "{text}"\n[training]\nbatch_sequence = 3\n'),
    ):
        path = tmp_path / name
        path.write_text(written)
        for budget in (None, 5000):
            with pytest.raises(RefusedError) as error:
                zoo.client().train(path, max_budget=budget)
            # Of JSON that was changed only the file is named.
            line = "" if name == "mine.json" else ":5"
            assert error.value.detail == f"{path}{line}: training.batch_sequence: there is no such key"
            assert error.value.hint is not None and "did you mean batch_sequences?" in error.value.hint
    with pytest.raises(RefusedError) as error:
        zoo.client().train({"preset": "qwen3-tiny", "step": 5})
    assert error.value.detail == "step: there is no such key"


def test_a_budget_ends_a_job_with_a_model(zoo: LocalNetwork, text: Path, tmp_path: Path) -> None:
    # Five steps of four sequences of 64 tokens, at six operations for each of 32,992 parameters.
    units = (5 * 4 * 64 + 0.5) * 6 * 32_992 / 1e15
    job = zoo.client().train(tiny(text, seed=5, steps=400), max_budget=units).result(progress=False, timeout=TIMEOUT_S)
    assert job.state is JobState.BUDGET_USED
    assert job.info.tokens_max == 1280 and 1280 <= job.info.tokens < 400 * 256
    assert (job.download(tmp_path / "model") / "config.json").is_file()


def test_a_job_is_paused_resumed_and_cancelled(zoo: LocalNetwork, text: Path) -> None:
    client = zoo.client()
    job = client.train(tiny(text, seed=6, steps=100_000))
    assert job.pause().state is JobState.PAUSED
    assert job.resume().state in (JobState.QUEUED, JobState.RUNNING)
    with pytest.raises(TimeoutError, match="goes on"):
        job.result(progress=False, timeout=0.2)
    threading.Timer(0.5, job.cancel).start()
    with pytest.raises(JobCancelledError) as error:
        client.job(job.id).result(progress=False, timeout=TIMEOUT_S)
    assert error.value.job.state is JobState.CANCELLED


def test_a_plan_of_checkpoints_is_what_the_network_keeps(zoo: LocalNetwork, text: Path) -> None:
    plan = CheckpointConfig(interval=4, redundancy=1, keep=2)
    client = zoo.client()
    job = client.submit(ComputeJob(training_config=tiny(text, seed=7), checkpoint=plan))
    job.result(progress=False, timeout=TIMEOUT_S)
    kept = [checkpoint for checkpoint in client.checkpoints() if checkpoint.job == job.id]
    assert {checkpoint.redundancy for checkpoint in kept} == {1}
    # Every round is at an interval: the last two, and the newest among them or besides.
    assert 2 in {checkpoint.round for checkpoint in kept} and len(kept) in (2, 3)


def test_who_has_no_key_may_look_and_nothing_else(zoo: LocalNetwork, text: Path) -> None:
    stranger = Client(url=zoo.url)
    assert len(stranger.nodes()) == 2
    with pytest.raises(NoKeyError):
        stranger.train(tiny(text))
    with pytest.raises(NotFoundError, match="there is no job"):
        stranger.job("ab" * 32)


def test_ctrl_c_ends_the_waiting_and_not_the_job(zoo: LocalNetwork, text: Path) -> None:
    job = zoo.client().train(tiny(text, seed=8, steps=100_000), name="long")
    program = "import sys, zoo_compute\nzoo_compute.Client(url=sys.argv[1]).job(sys.argv[2]).result()\n"
    line = [sys.executable, "-c", program, zoo.url, job.id]

    def hear_ctrl_c() -> None:
        """Whoever started these tests in the background may have told them to ignore it, and children inherit that."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("long  ")
        waiting.send_signal(signal.SIGINT)
        said = waiting.stderr.read()
    assert f"'long' goes on without this program; Client().job('{job.id}') finds it again" in said
    assert "KeyboardInterrupt" in said and waiting.returncode != 0
    assert not job.refresh().is_over
    job.cancel()


@pytest.mark.parametrize("watcher", ["thread", "event loop"])
def test_a_watcher_misses_nothing_when_the_orchestrator_is_killed(
    watcher: str, binary: Path, text: Path, tmp_path: Path
) -> None:
    with local_network(1, threads=1, binary=binary, directory=tmp_path / "network") as network:
        client = network.client()
        job = client.train(tiny(text, steps=60, evaluate_every=60))
        killed = threading.Event()

        def kill_once() -> None:
            if not killed.is_set():
                killed.set()
                network.kill()
                network.restart()

        if watcher == "thread":
            heard = listen(network, job.id, kill_once)
        else:
            heard = asyncio.run(alisten(network, job.id, kill_once))
        assert killed.is_set()
        # The journal tells it whole to who asks afterwards; the watcher heard the same, each once.
        assert [(event.id, event.kind) for event in heard] == [(event.id, event.kind) for event in job.events()]
        assert job.refresh().state is JobState.FINISHED
        steps = [event.data["step"] for event in heard if event.kind == "round_finished"]
        assert steps == list(range(4, 61, 4))


def listen(network: LocalNetwork, id: str, kill: Callable[[], None]) -> list[Event]:
    heard = []
    for event in network.client().job(id).events():
        heard.append(event)
        if event.kind == "round_finished":
            kill()
    return heard


async def alisten(network: LocalNetwork, id: str, kill: Callable[[], None]) -> list[Event]:
    heard = []
    async with network.async_client() as client:
        async for event in (await client.job(id)).events():
            heard.append(event)
            if event.kind == "round_finished":
                await asyncio.to_thread(kill)
    return heard
