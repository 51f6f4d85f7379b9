"""Errors for the user: what is wrong, where, and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class FlowsheetError(Exception):
    """An error that the user can fix: what is wrong, where, and what to do.

    The three parts are the ``args`` of the exception, so that it can be pickled and sent to another
    process.
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


class Unreachable(FlowsheetError):
    """A server does not answer; the same call may succeed later (exit code 1)."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where there is no message.

    >>> first_line(ValueError("no such day\\nat all")), first_line(TypeError())
    ('no such day', 'TypeError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a hint, or the list of all of them.

    >>> did_you_mean("lstn", ["gru", "lstm"])
    'did you mean "lstm"? (known: gru, lstm)'
    """
    names = sorted(known)
    nearest = get_close_matches(word, names, n=1, cutoff=0.5)
    all_names = f"known: {', '.join(names)}" if names else "none are known"
    return f'did you mean "{nearest[0]}"? ({all_names})' if nearest else all_names


_USER_IN_URL = re.compile(r"(?<=://)[^/\s]*@")
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|AUTH_STRING|API_KEY|CREDENTIAL")
_MIN_SECRET_LENGTH = 6
"""Shorter values occur in many texts by chance, and masking them would make these unreadable."""


def mask_secrets(text: str) -> str:
    """Replace secrets by ``***``.

    These are user and password in URLs, and values of environment variables with names like
    PASSWORD or TOKEN.

    >>> mask_secrets("no answer from postgresql://ada:lovelace@db:5432/mlflow")
    'no answer from postgresql://***@db:5432/mlflow'
    """
    secrets = [
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _MIN_SECRET_LENGTH
    ]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USER_IN_URL.sub("***@", text)
