"""How a request is rejected: a status, a kind of error, and the places at which it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

MAX_LISTED_PROBLEMS = 20
"""Problems that an answer lists; the others are only counted."""

_MAX_VALUE_LENGTH = 80
"""Characters of a wrong value that an answer repeats."""


@dataclass(frozen=True)
class Problem:
    """One place at which a request breaks a rule; ``row`` counts from 1 in its table."""

    table: str | None
    row: int | None
    column: str | None
    rule: str
    value: str | None
    message: str


class RequestRejected(Exception):
    """A request that is answered with a status of 4xx or 5xx and the reason."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        problems: Sequence[Problem] = (),
        problem_count: int | None = None,
    ) -> None:
        """Keep what the answer reports.

        Args:
            status: HTTP status code.
            kind: what programs branch on, such as ``not_json``.
            message: what people read.
            problems: where the request is wrong; only the first ones are kept.
            problem_count: how many problems there are, where ``problems`` are not all.
        """
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.problems = list(problems)[:MAX_LISTED_PROBLEMS]
        self.problem_count = len(problems) if problem_count is None else problem_count

    @property
    def body(self) -> bytes:
        """The answer as JSON."""
        answer: dict[str, Any] = {"error": self.kind, "message": self.message}
        if self.problem_count:
            answer["problem_count"] = self.problem_count
            answer["problems"] = [asdict(problem) for problem in self.problems]
        return orjson.dumps(answer)


def invalid_request(
    problems: Sequence[Problem], problem_count: int | None = None
) -> RequestRejected:
    """The rejection (422) of a request whose data are wrong.

    >>> invalid_request([Problem("events", 3, "value", "not_null", None, "value is null")]).message
    '1 problem; the first: value is null'
    """
    count = len(problems) if problem_count is None else problem_count
    noun = "problems" if count > 1 else "problem"
    message = f"{count} {noun}; the first: {problems[0].message}"
    return RequestRejected(422, "invalid", message, problems, count)


def format_value(value: Any) -> str | None:
    """A wrong value as short text; None for null.

    >>> format_value(True), format_value("x" * 100)[-3:]
    ('true', 'xx…')
    """
    if value is None:
        return None
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text if len(text) <= _MAX_VALUE_LENGTH else text[:_MAX_VALUE_LENGTH] + "…"
    return text.encode(errors="replace").decode()
