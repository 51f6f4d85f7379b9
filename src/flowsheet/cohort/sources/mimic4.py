"""MIMIC-IV 2.2 and 3.1: the raw tables of the database, in the folders hosp and icu.

Johnson et al., Scientific Data 10:1, 2023, doi:10.1038/s41597-022-01899-x. The tables are described
in ``databases/mimic4.yaml``; docs/mimic4.md describes what differs from MIMIC-III.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from flowsheet.cohort.engine.database import SHIPPED
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.source import DatabaseSource
from flowsheet.cohort.sources.base import SOURCES

__all__ = ["Mimic4"]


@SOURCES.register("mimic4")
class Mimic4(DatabaseSource):
    """MIMIC-IV's raw tables, a thousand stays at a time."""

    Options: ClassVar[type[DatabaseOptions]] = DatabaseOptions
    version: ClassVar[int] = 1
    database_file: ClassVar[Path] = SHIPPED / "mimic4.yaml"
