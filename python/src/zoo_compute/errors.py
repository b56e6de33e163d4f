"""What goes wrong, as exceptions that say what, why (`detail`) and what to do about it (`hint`).

Every one is a `ZooError`. What a server refused is a `ProblemError`, of a class for each kind of problem; what a
program gave this package is refused with a `ConfigError` before anything is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .models import Job, Problem


class ZooError(Exception):
    """Something that did not work."""

    def __init__(self, detail: str, hint: str | None = None) -> None:
        """What is wrong, and what to do about it."""
        super().__init__(detail, hint)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        """Both, as a person reads them."""
        return self.detail if self.hint is None else f"{self.detail}\nhint: {self.hint}"


class ConfigError(ZooError):
    """What a program asked for makes no sense, or names what is not there. Nothing was sent."""


class UnreachableError(ZooError):
    """No orchestrator answers."""


class UnexpectedAnswerError(ZooError):
    """What answered is not an orchestrator, or one of another version."""


class UnsafeNameError(ZooError):
    """A server named a file that would not be in its folder. Nothing was written."""


class LocalNetworkError(ZooError):
    """A network on this machine does not start."""


class JobError(ZooError):
    """A job that ended without being trained to its end or its budget."""

    def __init__(self, job: Job, detail: str, hint: str | None = None) -> None:
        """The job, as it is now."""
        super().__init__(detail, hint)
        self.job = job


class JobFailedError(JobError):
    """It will not go on by itself."""


class JobCancelledError(JobError):
    """Somebody cancelled it."""


class ProblemError(ZooError):
    """What the server said against a request (RFC 9457)."""

    KIND: ClassVar[str] = ""

    def __init__(self, problem: Problem, detail: str | None = None, hint: str | None = None) -> None:
        """The problem; `detail` and `hint` say it in the program's own terms instead."""
        super().__init__(detail or problem.detail, hint or problem.hint)
        self.problem = problem
        self.kind = problem.type
        self.status = problem.status


class InvalidError(ProblemError):
    """The request makes no sense."""

    KIND = "invalid"


class NoKeyError(ProblemError):
    """A key is needed, or there is no such key."""

    KIND = "no-key"


class NotAllowedError(ProblemError):
    """The key does not allow this."""

    KIND = "not-allowed"


class NotFoundError(ProblemError):
    """There is no such thing."""

    KIND = "not-found"


class ConflictError(ProblemError):
    """It does not fit what is there: the job is over, or no round of it is finished yet."""

    KIND = "conflict"


class TooLargeError(ProblemError):
    """The text or the request is too large."""

    KIND = "too-large"


class RefusedError(ProblemError):
    """The request is understood and cannot be done: most often a key or value of a configuration."""

    KIND = "refused"


class BusyError(ProblemError):
    """Too much at once."""

    KIND = "busy"


class UnavailableError(ProblemError):
    """Not at the moment."""

    KIND = "unavailable"


_KINDS = {
    kind.KIND: kind
    for kind in (
        InvalidError,
        NoKeyError,
        NotAllowedError,
        NotFoundError,
        ConflictError,
        TooLargeError,
        RefusedError,
        BusyError,
        UnavailableError,
    )
}


def problem_error(problem: Problem, hint: str | None = None) -> ProblemError:
    """The exception of the class that the problem's kind has; of a kind that is not known here, a plain one."""
    return _KINDS.get(problem.type, ProblemError)(problem, hint=hint)
