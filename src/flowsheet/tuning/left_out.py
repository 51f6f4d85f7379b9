"""Scores of a trial on groups of subjects that it is not fitted on: how it does elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flowsheet.typing import Floats, Labels
from flowsheet.windows.sequences import Sequences

ScoreFunction = Callable[[Labels, Floats], float]
"""(y, p) of the scored rows -> the monitored metric; larger is better."""


class LeftOutParts(NamedTuple):
    """The development subjects with one group held out; inputs as the model takes them."""

    train: Sequences
    valid: Sequences
    held_out: Sequences
    score: ScoreFunction
    """Of the held-out rows."""


@dataclass(frozen=True)
class LeftOutGroup:
    """One group, such as a care unit."""

    name: str
    load: Callable[[], LeftOutParts]
    """The parts are made when they are needed: all of them together would need the memory of as
    many cohorts."""
