"""The lines of Python with which the project is described, as they stand there. `test_description.py` runs them."""

from typing import Any

from zoo_compute import CheckpointConfig, ComputeJob, network


async def train() -> Any:
    from zoo_compute import Client

    client = Client(api_key=...)
    job = client.train(config="./training_config.yaml", max_budget=5000)
    await job.wait()
    return job


async def submit(model_config: Any, data_config: Any, training_config: Any) -> str:
    job = ComputeJob(
        model_config=model_config,
        data_config=data_config,
        training_config=training_config,
        budget_max=10000,
    )
    job_id = await network.submit(job)
    return job_id


def checkpoints() -> CheckpointConfig:
    return CheckpointConfig(interval=1000, storage="ipfs", redundancy=3)
