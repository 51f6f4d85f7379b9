"""What a source owes: raw records in, batches of whole stays in the contract's four tables out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from flowsheet.cohort.schema import empty_table
from flowsheet.config import FrozenModel
from flowsheet.plugins import Registry

DEFECTS: dict[str, pl.DataType] = {
    "table": pl.String(),  # the contract's table, or the raw file's kind
    "key": pl.String(),  # e.g. "stay 12, 2000-01-01 05:00" or "p000012.psv row 7"
    "column": pl.String(),
    "rule": pl.String(),
    "value": pl.String(),
}


@dataclass(frozen=True)
class StayBatch:
    """Some whole stays. Frames have exactly the columns and types of ``cohort.schema``."""

    stays: pl.DataFrame
    events: pl.DataFrame = field(default_factory=lambda: empty_table("events"))
    treatments: pl.DataFrame = field(default_factory=lambda: empty_table("treatments"))
    episodes: pl.DataFrame = field(default_factory=lambda: empty_table("episodes"))
    defects: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DEFECTS))
    """Raw rows that could not become rows of the contract, one line each; subject to the cohort's
    quarantine policy like every other broken rule."""
    attrition: dict[str, int] = field(default_factory=dict)
    """Stays left after each named step, in order ("in the raw tables", "age >= 18", ...); summed over batches."""
    exclusions: dict[str, int] = field(default_factory=dict)
    """Raw rows that the source's own rules leave out, by reason ("charted in error", ...); summed over batches."""
    source_counts: dict[str, int] = field(default_factory=dict)
    """What the source met and decided on the way ("times of suspicion", ...); summed over batches."""


class Source(ABC):
    """One kind of raw record. A new source is one new module in this package:

    ``@SOURCES.register("name")`` on a subclass, an ``Options`` model with a documented default for
    every choice, and the conformance suite ``flowsheet.testing.sources.SourceConformance``
    subclassed in a test.

    A source does no validation that the contract does; it must raise ``CheckFailed`` (file, row,
    column, what to do) for input that it cannot read at all, and must not write anything.
    """

    Options: ClassVar[type[FrozenModel]] = FrozenModel
    needs_path: ClassVar[bool] = True
    version: ClassVar[int] = 1
    """Raise it when the same raw records become other rows: cached extracts are then made anew."""
    licence: str = "not stated"
    variables: tuple[str, ...] = ()
    """Catalogue variables that the source can hold, in the order of the feature columns."""
    drugs: tuple[str, ...] = ()
    rules: ClassVar[tuple[str, ...]] = ()
    """Names of the rules in its batches' defects, for which a cohort may declare a policy."""

    def __init__(self, path: Path | None, options: Any) -> None:
        """``options`` is an instance of the source's ``Options``."""
        self.path, self.options = path, options

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of the raw input's content (cheap beside reading it). The options are keyed
        elsewhere.

        Raises:
            CheckFailed: the input is not there, or is not of this kind.
        """

    @abstractmethod
    def batches(self) -> Iterator[StayBatch]:
        """Batches in strictly ascending order of stay_id, the same ones for the same input."""

    def oracle(self) -> pl.DataFrame | None:
        """For simulated wards: (stay_id, time, probability) under the law itself; kept apart from the tables."""
        return None


SOURCES: Registry[Source] = Registry("source", "flowsheet.cohort.sources")
