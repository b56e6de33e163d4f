"""Train one open language model on machines that nobody has to trust.

    from zoo_compute import Client

    client = Client(api_key=...)
    job = client.train(config="./training_config.yaml", max_budget=5000)
    await job.wait()

`Client` is for programs that wait for each answer, `AsyncClient` for those with an event loop; `local_network` starts a
network on this machine.
"""

from .client import AsyncClient, Client, Network
from .errors import (
    BusyError,
    ConfigError,
    ConflictError,
    InvalidError,
    JobCancelledError,
    JobError,
    JobFailedError,
    LocalNetworkError,
    NoKeyError,
    NotAllowedError,
    NotFoundError,
    ProblemError,
    RefusedError,
    TooLargeError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    UnsafeNameError,
    ZooError,
)
from .events import Event
from .job import AsyncJob, Job
from .job_config import CheckpointConfig, ComputeJob
from .local import LocalNetwork, find_binary, local_network
from .models import JobState
from .table import Table

__version__ = "0.1.0"

network = Network()
"""The network that `ZOO_URL` and `ZOO_API_KEY` name."""

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BusyError",
    "CheckpointConfig",
    "Client",
    "ComputeJob",
    "ConfigError",
    "ConflictError",
    "Event",
    "InvalidError",
    "Job",
    "JobCancelledError",
    "JobError",
    "JobFailedError",
    "JobState",
    "LocalNetwork",
    "LocalNetworkError",
    "Network",
    "NoKeyError",
    "NotAllowedError",
    "NotFoundError",
    "ProblemError",
    "RefusedError",
    "Table",
    "TooLargeError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "UnsafeNameError",
    "ZooError",
    "find_binary",
    "local_network",
    "network",
]
