"""What the format of raw records owes: it gets the ward's rows and writes its own tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from flowsheet.raw_export.chart_events import ChartedRows
from flowsheet.raw_export.day_template import DayTemplate
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.patients import Patients


class Shape(ABC):
    """One format of raw records, written to a folder a block of stays at a time.

    The ward's rows come as tables of MIMIC-III, which knows most of a row. A format writes what it
    can carry of them, under its own names.
    """

    title: ClassVar[str]
    """As users know it."""
    has_error_flags: ClassVar[bool] = False
    """Rows that were charted in error are in the tables, and flagged."""

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        self.folder = folder
        self.options = options
        self.n_rows: Counter[str] = Counter()
        """Rows written, by table."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Open the files."""

    @abstractmethod
    def __exit__(self, *exc: object) -> None:
        """Close the files."""

    @abstractmethod
    def table_name(self, table: str) -> str:
        """The name of MIMIC-III's table in this format."""

    @abstractmethod
    def add_charted(self, template: DayTemplate, patients: Patients, rows: ChartedRows) -> None:
        """Write rows of a table that is charted around the clock.

        Args:
            template: the day of the table in one chart system.
            patients: the stays.
            rows: what is charted of them.
        """

    @abstractmethod
    def add_tables(self, tables: dict[str, pl.DataFrame]) -> None:
        """Write the other rows of the same stays; the keys are names of MIMIC-III's tables."""

    @abstractmethod
    def finish(self) -> None:
        """Write what belongs to no stay; called once, after all stays."""
