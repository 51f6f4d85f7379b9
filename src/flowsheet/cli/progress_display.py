"""What a terminal shows while an experiment runs: stage, models, trials, epochs, time left."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from flowsheet.progress import LEVELS, log_level, redirected

_POLL_SECONDS = 0.25
_BAR_WIDTH = 14


@dataclass
class _Training:
    """How far the training of one model in one fold is."""

    trial: int = 0
    trials: int = 1
    step: int = 0
    steps: int = 0
    unit: str = ""
    best: float | None = None

    @property
    def share(self) -> float:
        """The finished share of the training, as far as its trials and epochs tell."""
        within = min(1.0, self.step / self.steps) if self.steps else 0.0
        return min(1.0, (self.trial + within) / self.trials)


@dataclass
class ProgressState:
    """All that is known of a run's progress, from the lines of its processes."""

    title: str
    stage: str = "starting"
    n_trainings: int = 0
    n_finished: int = 0
    started: float | None = None
    """When the first training began, by the clock of ``time.monotonic``."""
    active: dict[str, _Training] = field(default_factory=dict)

    def update(self, record: dict[str, Any], now: float) -> None:
        """Take one record of ``flowsheet.progress`` into account."""
        unit, name = record.get("unit"), record["name"]
        if unit == "models":
            self.n_finished, self.n_trainings = record["step"], record["total"]
            self.started = now
        elif unit == "stage" and record["step"]:
            self._finish(name)
        elif unit == "stage":
            self._begin(name)
        elif unit == "trial":
            training = self.active.setdefault(name, _Training())
            training.trial, training.trials = record["step"], record["total"]
            training.step = training.steps = 0
        elif unit in ("epoch", "round"):
            training = self.active.setdefault(name, _Training())
            training.step, training.steps, training.unit = record["step"], record["total"], unit
            training.best = _larger(training.best, record["score"])

    def _begin(self, name: str) -> None:
        if self.started is None:
            self.stage = name
        else:
            self.active[name] = _Training()

    def _finish(self, name: str) -> None:
        if self.active.pop(name, None):
            self.n_finished += 1
        if self.n_trainings and self.n_finished >= self.n_trainings:
            self.started = None  # what follows are stages again
            self.n_trainings = 0

    def seconds_left(self, now: float) -> float | None:
        """An estimate by the finished share of all trainings; None before there is enough of it."""
        if self.started is None or not self.n_trainings:
            return None
        done = self.n_finished + sum(training.share for training in self.active.values())
        elapsed = now - self.started
        if done < 0.02 * self.n_trainings or elapsed < 2:
            return None
        return elapsed * (self.n_trainings - done) / done


def _larger(best: float | None, score: float | None) -> float | None:
    if best is None or score is None:
        return score if best is None else best
    return max(best, score)


def render(state: ProgressState, now: float) -> RenderableType:
    """The display: one line for the run, and one for each model that is being trained."""
    head = f"{state.title}: {state.stage}"
    if state.n_trainings:
        begun = min(state.n_finished + len(state.active), state.n_trainings)
        head = f"{state.title}: training, model {begun} of {state.n_trainings}"
        left = state.seconds_left(now)
        if left is not None:
            head += f", about {format_duration(left)} left"
    table = Table.grid(padding=(0, 2))
    for name, training in sorted(state.active.items()):
        trial = f"trial {min(training.trial + 1, training.trials)} of {training.trials}"
        step = f"{training.unit} {training.step} of {training.steps}" if training.steps else ""
        best = "" if training.best is None else f"best so far {training.best:.4f}"
        bar = ProgressBar(total=1.0, completed=training.share, width=_BAR_WIDTH)
        table.add_row(f"  {name}", trial, step, bar, best)
    return Group(Spinner("line", Text(head)), table)


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(8), format_duration(130), format_duration(7300)
    ('10 s', '2 min', '2 h 2 min')
    """
    if seconds < 100:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def shown_progress(title: str) -> Iterator[None]:
    """Show a run's progress during the block, if standard error is a terminal."""
    console = Console(stderr=True)
    is_quiet = LEVELS.index(log_level()) > LEVELS.index("info")
    if is_quiet or not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    state = ProgressState(title)
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="flowsheet-") as folder:
        file = Path(folder) / "progress.jsonl"
        file.touch()
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        with live, file.open(encoding="utf-8") as lines, redirected(file):
            thread = threading.Thread(
                target=_follow, args=(lines, state, live, stopped), daemon=True, name="progress"
            )
            thread.start()
            try:
                yield
            finally:
                stopped.set()
                thread.join()


def _follow(lines: TextIO, state: ProgressState, live: Live, stopped: threading.Event) -> None:
    """Show what arrives in the file until the event is set, and then the rest."""
    is_last = False
    while not is_last:
        is_last = stopped.wait(_POLL_SECONDS)
        for line in lines:
            record = json.loads(line)
            state.update(record, time.monotonic())
            if record["is_shown"]:
                name = f"[{record['name']}] " if record["name"] else ""
                live.console.print(name + record["text"], markup=False, highlight=False)
        live.update(render(state, time.monotonic()), refresh=True)
