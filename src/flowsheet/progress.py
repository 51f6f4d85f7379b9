"""Lines of progress: on a terminal a display that moves, in a log one line a trial.

Every process of a run reports through ``report``. Lines go to standard error, those of detail
(epochs, rounds) only with ``FLOWSHEET_LOG_LEVEL=debug``. While a display runs, the lines of all
processes go to the file that ``FLOWSHEET_PROGRESS_FILE`` names instead, one JSON object each.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, TextIO

from flowsheet.errors import mask_secrets

LOG_LEVEL = "FLOWSHEET_LOG_LEVEL"
PROGRESS_FILE = "FLOWSHEET_PROGRESS_FILE"

LEVELS = ("debug", "info", "warning", "error")
"""What is printed, from everything to nothing but errors."""

Unit = Literal["epoch", "round", "trial", "models", "stage"]
_DETAILS = ("epoch", "round")


class ProgressLine(str):
    """A line of progress that states how far something is: ``step`` of ``total``."""

    unit: Unit
    step: int
    total: int
    score: float | None
    """The value of the monitored metric at this step."""

    def __new__(
        cls, text: str, unit: Unit, step: int, total: int, score: float | None = None
    ) -> Self:
        """A line with its position.

        Args:
            text: the line as it is printed in a log; empty: it is for the display only.
            unit: what is counted; a stage has begun (0 of 1) or is finished (1 of 1).
            step: how many are finished.
            total: how many there are.
            score: the monitored metric at this step.
        """
        line = super().__new__(cls, text)
        line.unit, line.step, line.total, line.score = unit, step, total, score
        return line

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For the pickles in which other processes send lines."""
        return (str(self), self.unit, self.step, self.total, self.score)


@contextlib.contextmanager
def set_log_level(level: str) -> Iterator[None]:
    """Set the level of this process and its children during the block."""
    previous = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = level
    try:
        yield
    finally:
        os.environ.pop(LOG_LEVEL)
        if previous is not None:
            os.environ[LOG_LEVEL] = previous


def log_level() -> str:
    """The level of ``FLOWSHEET_LOG_LEVEL``, by default ``info``."""
    level = os.environ.get(LOG_LEVEL, "").lower()
    return level if level in LEVELS else "info"


def is_shown(line: str) -> bool:
    """Whether a line is printed at the present level."""
    if not line:
        return False
    level = "warning" if line.startswith("warning") else "info"
    if isinstance(line, ProgressLine) and line.unit in _DETAILS:
        level = "debug"
    return LEVELS.index(level) >= LEVELS.index(log_level())


def report(line: str, name: str = "") -> None:
    """Show a line of progress; ``name`` is the stage or model that it is about."""
    text = mask_secrets(line)
    file = os.environ.get(PROGRESS_FILE)
    if file:
        _append(Path(file), _as_record(line, text, name))
    elif is_shown(line):
        print(f"[{name}] {text}" if name else text, file=LossyStream(sys.stderr), flush=True)


class LossyStream:
    """A text stream that loses what it cannot write, instead of raising an error.

    The reader of a pipe may have ended, the stream may be closed, and its encoding may lack a
    character: none of these is a reason to end a training.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text where possible; returns its length."""
        try:
            self._write(text)
        except UnicodeEncodeError:
            with contextlib.suppress(OSError, ValueError):
                self._write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass
        return len(text)

    def flush(self) -> None:
        """Flush the stream where possible."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect_output() -> None:
    """Let no line that this process cannot print end it, whatever prints the line."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, LossyStream):
            setattr(sys, name, LossyStream(stream))


def _as_record(line: str, text: str, name: str) -> dict[str, Any]:
    record: dict[str, Any] = {"name": name, "text": text, "is_shown": is_shown(line)}
    if isinstance(line, ProgressLine):
        position = {"unit": line.unit, "step": line.step, "total": line.total}
        record |= {**position, "score": line.score}
    return record


def _append(file: Path, record: dict[str, Any]) -> None:
    """Append one line, in one call: lines of several processes do not mix."""
    data = (json.dumps(record) + "\n").encode()
    with contextlib.suppress(OSError):  # the display has ended
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def redirected(file: Path) -> Iterator[None]:
    """Send the lines of this process and its children to a file during the block."""
    os.environ[PROGRESS_FILE] = str(file)
    try:
        yield
    finally:
        os.environ.pop(PROGRESS_FILE, None)
