"""What a client can do, as requests and what is made of their answers. Nothing here opens a connection.

Each operation is written once: `Client` runs it in the calling thread, `AsyncClient` in an event loop.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote

from . import models
from .answers import AWAY, Answer
from .errors import (
    ConfigError,
    ProblemError,
    UnexpectedAnswerError,
    UnreachableError,
    UnsafeNameError,
)
from .job_config import JobDocument
from .table import Table
from .transport import LostError, Pause, Request, Save, Steps

# Between attempts: at first, and at most, seconds.
PAUSE_S = 0.25
PAUSE_MAX_S = 5.0
# So often, which takes about two minutes, where an orchestrator may be starting again.
PATIENT_ATTEMPTS = 28
# Making a job reads all its text, and making a model's folder fetches it from the nodes.
LONG_S = 1800.0
# Of a model's folder.
FILES_MAX = 10_000
# What a round was measured at, in this order.
METRICS = ("round", "step", "tokens", "loss", "held_out_loss", "bits_per_byte", "tokens_per_second", "participants") + (
    "contributed",
    "missed",
    "bytes",
    "starts",
    "started_ms",
    "sealed_ms",
    "finished_ms",
    "checkpoint",
)


def ask(step: Request | Save) -> Steps[Answer]:
    """Asks until there is an answer, where asking again does no harm."""
    request = step.request if isinstance(step, Save) else step
    pause_s, attempts_left = PAUSE_S, request.attempts
    while True:
        attempts_left -= 1
        try:
            answer: Answer = yield step
        except LostError as cause:
            if attempts_left == 0 or not (request.may_repeat or cause.is_unsent):
                hint = "is an orchestrator running there? `zoo up` starts one; ZOO_URL, or url=, says where it is"
                raise UnreachableError(f"{request.method} {request.path} had no answer: {cause}", hint) from cause
        else:
            if attempts_left == 0 or answer.status not in AWAY or not request.may_repeat:
                return answer.checked()
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


def get(path: str, *, takes_s: float | None = None, **query: str | int | bool | None) -> Steps[object]:
    """What is at a path."""
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    answer = yield from ask(Request(method="GET", path=path, query=given, may_repeat=True, takes_s=takes_s))
    return answer.json()


def job_path(job: str, *rest: str) -> str:
    """Where a job is, whatever its id has in it."""
    return "/".join(["/v1/jobs", *(quote(part, safe="") for part in (job, *rest))])


def events_path(kinds: Iterable[str] | None) -> str:
    """Where events are: all, or those of these kinds."""
    if kinds is None:
        return "/v1/events"
    return "/v1/events?kinds=" + quote(",".join([kinds] if isinstance(kinds, str) else kinds), safe=",")


def submit(document: JobDocument) -> Steps[models.Job]:
    """Uploads the text that is here, and submits the job."""
    texts = document.texts()
    if texts is not None:
        names: list[str] = []
        for path in texts:
            names.append((yield from upload(path)).data)
        document = document.changed(data=",".join(names))
    body, form = document.body()
    headers = {"Content-Type": f"application/{form}", "Idempotency-Key": str(uuid.uuid4())}
    request = Request(
        method="POST", path="/v1/jobs", headers=headers, content=body.encode(), may_repeat=True, takes_s=LONG_S
    )
    try:
        answer = yield from ask(request)
    except ProblemError as problem:
        raise document.explained(problem) from None
    return models.Job.of(answer.json())


def upload(content: str | bytes | Path) -> Steps[models.Text]:
    """Uploads a text, or the file that it is in. What is uploaded twice is there once, so asking again does no harm."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    content = content.encode() if isinstance(content, str) else content
    request = Request(
        method="POST", path="/v1/texts", headers=headers, content=content, may_repeat=True, takes_s=LONG_S
    )
    return models.Text.of((yield from ask(request)).json())


def job(id: str, *, is_patient: bool = False) -> Steps[models.Job]:
    """A job, as it is now. Who `is_patient` waits for an orchestrator that starts again."""
    request = Request(method="GET", path=job_path(id), may_repeat=True)
    if is_patient:
        request = replace(request, attempts=PATIENT_ATTEMPTS)
    return models.Job.of((yield from ask(request)).json())


def steer(id: str, verb: str) -> Steps[models.Job]:
    """Cancels, pauses or resumes a job."""
    answer = yield from ask(Request(method="POST", path=job_path(id, verb)))
    return models.Job.of(answer.json())


def jobs(state: models.JobState | None, limit: int | None) -> Steps[list[models.Job]]:
    """The newest jobs, page by page."""
    found: list[models.Job] = []
    cursor: int | None = None
    while limit is None or len(found) < limit:
        page_size = 200 if limit is None else min(200, limit - len(found))
        answer = yield from get("/v1/jobs", cursor=cursor, limit=page_size, state=state and state.value)
        page = models.Jobs.of(answer)
        found += page.jobs
        cursor = page.next
        if cursor is None:
            break
    return found


def nodes(live: bool | None) -> Steps[list[models.Node]]:
    """The nodes, page by page."""
    found: list[models.Node] = []
    cursor: str | None = None
    while True:
        page = models.Nodes.of((yield from get("/v1/nodes", cursor=cursor, live=live)))
        found += page.nodes
        cursor = page.next
        if cursor is None:
            return found


def node(id: str) -> Steps[models.Node]:
    """A node."""
    return models.Node.of((yield from get(f"/v1/nodes/{quote(id, safe='')}")))


def checkpoints() -> Steps[list[models.Checkpoint]]:
    """The checkpoints that are kept."""
    return list(models.Checkpoints.of((yield from get("/v1/checkpoints"))).checkpoints)


def health() -> Steps[models.Health]:
    """Whether the orchestrator works."""
    return models.Health.of((yield from get("/health")))


def metrics(id: str) -> Steps[Table]:
    """What the rounds of a job were measured at, page by page."""
    rounds: list[models.Round] = []
    start: int | None = 0
    while start is not None:
        page = models.Rounds.of((yield from get(job_path(id, "rounds"), from_=start)))
        rounds += page.rounds
        if page.next is not None and page.next <= start:
            raise UnexpectedAnswerError(f"the rounds after {start} begin at {page.next}")
        start = page.next
    return Table(map(asdict, rounds), METRICS)


def download(id: str, folder: str | os.PathLike[str] | None) -> Steps[Path]:
    """A job's model in a folder, which is there only when it is whole."""
    if folder is None:
        folder = _plain((yield from job(id)).name) or id[:16]
    target = Path(folder).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: there is something already", "name another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    try:
        yield from _fetch(id, made)
        if target.is_dir():
            target.rmdir()
        made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def _fetch(id: str, folder: Path) -> Steps[None]:
    """All files of the newest checkpoint into `folder`: of that one, also if there is a newer one by then."""
    model = models.Model.of((yield from get(job_path(id, "model"), takes_s=LONG_S)))
    of_it: dict[str, str | int | bool] = {"checkpoint": model.checkpoint}
    for file in _safe(model):
        path, target = job_path(id, "model", file.name), folder / file.name
        request = Request(method="GET", path=path, query=of_it, may_repeat=True, takes_s=LONG_S)
        yield from ask(Save(request=request, path=target, bytes_max=file.bytes))
        if target.stat().st_size != file.bytes:
            hint = "try again: the orchestrator may have been starting"
            raise UnexpectedAnswerError(f"of {file.name}, {target.stat().st_size} of {file.bytes} bytes came", hint)


def _safe(model: models.Model) -> Iterator[models.ModelFile]:
    """The files, if each has a name that is only a name."""
    if len(model.files) > FILES_MAX:
        raise UnsafeNameError(f"a model of {len(model.files)} files is none")
    for file in model.files:
        if not file.name or file.name != _plain(file.name):
            raise UnsafeNameError(f"the server names a file {file.name!r}, which is not only a name")
    if len({file.name.casefold() for file in model.files}) != len(model.files):
        raise UnsafeNameError("the server names two files alike")
    yield from model.files


def _plain(name: str) -> str:
    """What of a name can be a file's, in any folder of any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".").rstrip(".")[:200]
