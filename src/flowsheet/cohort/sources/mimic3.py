"""MIMIC-III 1.4: the raw tables of the database.

Johnson et al., Scientific Data 3:160035, 2016, doi:10.1038/sdata.2016.35. The tables are described
in ``databases/mimic3.yaml``; docs/mimic3.md describes every rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from flowsheet.cohort.engine.database import SHIPPED
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.source import DatabaseSource
from flowsheet.cohort.sources.base import SOURCES

__all__ = ["Mimic3", "Mimic3Options"]


class Mimic3Options(DatabaseOptions):
    """How the raw tables are read. All durations are in hours."""

    carevue_rate_hours: Annotated[float, Field(gt=0, le=48)] = 4.0
    """A rate charted in CareVue lasts until the next one is charted, at most this long."""

    @property
    def charted_rate_hours(self) -> float:
        """``carevue_rate_hours``."""
        return self.carevue_rate_hours


@SOURCES.register("mimic3")
class Mimic3(DatabaseSource):
    """MIMIC-III's raw tables, a thousand stays at a time."""

    Options: ClassVar[type[Mimic3Options]] = Mimic3Options
    version: ClassVar[int] = 1
    database_file: ClassVar[Path] = SHIPPED / "mimic3.yaml"
