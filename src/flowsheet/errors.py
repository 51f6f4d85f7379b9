"""What can go wrong, said so that a person can act on it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class FlowsheetError(Exception):
    """A failure that the user can mend: what is wrong, where, and what to do.

    The three parts are kept as ``args`` so that the error survives a trip between processes.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, where: str | None = None, todo: str | None = None) -> None:
        super().__init__(what, where, todo)
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  do:    {self.todo}")
        return "\n".join(lines)


class UsageError(FlowsheetError):
    """The command or the configuration is wrong (exit code 2)."""

    exit_code = 2


class CheckFailed(FlowsheetError):
    """The data or the evidence did not pass a declared check (exit code 1)."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a hint, or the list of all of them.

    >>> did_you_mean("lstn", ["gru", "lstm"])
    'did you mean "lstm"? (known: gru, lstm)'
    """
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.5)
    everything = f"known: {', '.join(names)}" if names else "none are known"
    return f'did you mean "{near[0]}"? ({everything})' if near else everything
