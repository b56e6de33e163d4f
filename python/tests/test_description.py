"""What the project's description shows does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import description
from zoo_compute import ComputeJob, JobState, LocalNetwork, network


async def test_what_the_description_shows_works(
    zoo: LocalNetwork, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_URL", zoo.url)
    monkeypatch.setenv("ZOO_API_KEY", zoo.api_key)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").symlink_to(text)
    (tmp_path / "training_config.yaml").write_text(
        "preset: qwen3-tiny\ndata: input.txt\nsteps: 8\nrounds: { inner_steps: 4 }\ntraining: { batch_sequences: 4 }\n"
    )
    job = await description.train()
    assert (job.state, job.info.rounds) == (JobState.FINISHED, 2)
    # The whole budget in tokens, at six operations for each of 32,992 parameters.
    assert job.info.tokens_max == int(5000 * 1e15 / (6 * 32_992))

    (tmp_path / "model.toml").write_text('preset = "qwen3-tiny"\n')
    training = {"steps": 8, "rounds": {"inner_steps": 4}, "batch_sequences": 4, "seed": 9}
    job_id = await description.submit("model.toml", "input.txt", training)
    assert (await network.wait(job_id, progress=False)).state is JobState.FINISHED
    assert (await network.download(job_id)).name == "qwen3-tiny"

    plan = ComputeJob(training_config={"rounds": {"inner_steps": 50}}, checkpoint=description.checkpoints())
    assert plan.document().said()["checkpoint"] == {"interval": 20, "redundancy": 3, "storage": "ipfs"}
