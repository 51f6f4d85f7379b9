"""CLIF 2.1 and 3.0: tables of the Common Longitudinal ICU data Format.

Rojas et al., Intensive Care Medicine 51:556-569, 2025, doi:10.1007/s00134-025-07848-7. The tables
are described in ``databases/clif.yaml``; docs/clif.md describes every rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from flowsheet.cohort.engine.database import SHIPPED
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.source import DatabaseSource
from flowsheet.cohort.sepsis3 import Sepsis3Options
from flowsheet.cohort.sources.base import SOURCES

__all__ = ["Clif", "ClifOptions"]


class ClifOptions(DatabaseOptions):
    """How the tables are read. All durations are in hours."""

    continuous_hours: Annotated[float, Field(gt=0, le=240)] = 48.0
    """A rate of a continuous medication that no later row ends lasts this long: a record whose end
    is missing. ``engine/charted_rates.py`` says which rows end it."""
    sepsis3: Sepsis3Options | None = None
    """How sepsis is defined; {}: by the defaults of docs/sepsis3.md. null: sepsis is not looked
    for, as many sites have no cultures in CLIF."""

    @property
    def charted_rate_hours(self) -> float:
        """``continuous_hours``."""
        return self.continuous_hours


@SOURCES.register("clif")
class Clif(DatabaseSource):
    """A site's CLIF tables, a thousand stays at a time."""

    Options: ClassVar[type[ClifOptions]] = ClifOptions
    version: ClassVar[int] = 1
    database_file: ClassVar[Path] = SHIPPED / "clif.yaml"
    stay_columns: ClassVar[tuple[str, ...]] = tuple(
        name for name in DatabaseSource.stay_columns if name != "insurance"
    )
