"""Answers: what came back, checked, and read as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .errors import UnexpectedAnswerError, problem_error
from .models import Problem

# Statuses of who is only away for a moment.
AWAY = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Answer:
    """What came back. Of an answer that went into a file, no body."""

    status: int
    body: bytes
    is_problem: bool

    def checked(self) -> Answer:
        """The same, unless it says a problem."""
        if self.is_problem:
            problem = Problem.of(self.json())
            needs_key = "Client(api_key=...), or ZOO_API_KEY, gives one; `zoo keys create NAME` makes one"
            raise problem_error(problem, needs_key if problem.type == "no-key" else None)
        if not 200 <= self.status < 300:
            detail = f"what answered is no orchestrator: status {self.status}"
            raise UnexpectedAnswerError(detail, "check ZOO_URL, or url=, and proxies on the way")
        return self

    def json(self) -> object:
        """The body, read."""
        try:
            value: object = json.loads(self.body)
        except ValueError as cause:
            raise UnexpectedAnswerError(f"the answer is not JSON: {self.body[:80]!r}") from cause
        return value
