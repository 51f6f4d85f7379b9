"""How a request is turned away: a status, a kind, and the places at which it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

SHOWN = 20
"""Problems that an answer lists; the rest are counted."""

_LONGEST = 80
"""Characters of an offending value that are repeated."""


@dataclass(frozen=True)
class Problem:
    """One place at which a request breaks a rule; ``row`` counts from 1 in its table."""

    table: str | None
    row: int | None
    column: str | None
    rule: str
    value: str | None
    message: str


class Refused(Exception):
    """A request that is answered with ``status`` (4xx or 5xx) and the reason."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        problems: Sequence[Problem] = (),
        count: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message
        self.problems = list(problems)[:SHOWN]
        self.count = len(problems) if count is None else count

    @property
    def body(self) -> bytes:
        """The answer as JSON."""
        about: dict[str, Any] = {"error": self.kind, "message": self.message}
        if self.count:
            about |= {
                "problem_count": self.count,
                "problems": [asdict(problem) for problem in self.problems],
            }
        return orjson.dumps(about)


def invalid(problems: Sequence[Problem], count: int | None = None) -> Refused:
    """The refusal (422) of a request whose data are wrong.

    >>> invalid([Problem("events", 3, "value", "not_null", None, "events need a value")]).message
    '1 problem; the first: events need a value'
    """
    count = len(problems) if count is None else count
    first = problems[0].message
    return Refused(
        422,
        "invalid",
        f"{count} problem{'s' if count > 1 else ''}; the first: {first}",
        problems,
        count,
    )


def shown(value: Any) -> str | None:
    """An offending value, cut to a length that an answer can bear.

    >>> shown(True), shown("x" * 100)[-3:]
    ('true', 'xx…')
    """
    if value is None:
        return None
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return text.encode(errors="replace").decode()
