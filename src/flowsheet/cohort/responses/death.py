"""Death in the hospital, or in intensive care.

The commonest outcome of scores and benchmarks of intensive care: SAPS II (Le Gall et al., JAMA
270:2957-2963 (1993), doi:10.1001/jama.1993.03510240069035) and the PhysioNet/CinC Challenge 2012
(Silva et al., Comput Cardiol 39:245-248 (2012)) predict death before discharge from the hospital,
YAIB (van de Water et al., ICLR 2024, arXiv:2306.05109) death in the unit.

The onset is ``died_at`` of the stays, known at that moment; there is no end. Death after discharge
from the hospital is none, although some databases know its date.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import polars as pl
from pydantic import Field

from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.responses.base import RESPONSES, Records, Response, Words
from flowsheet.config import FrozenModel


class Place(StrEnum):
    """Where a death counts."""

    hospital = "hospital"
    """Before discharge from the hospital; of a patient whose hospital stay is not recorded, in the
    unit."""
    icu = "icu"
    """Before discharge from the unit; of a patient who left the hospital alive, never."""


class DeathOptions(FrozenModel):
    """Which deaths count."""

    place: Place = Place.hospital
    tolerance_hours: Annotated[float, Field(ge=0, le=24)] = 1.0
    """For ``icu``: how long after discharge from the unit a death may be dated, as the bed is often
    closed before the time of death is written."""


@RESPONSES.register("death")
class Death(Response):
    """Death in the hospital or the unit, from the stays' ``died_at``."""

    Options = DeathOptions
    words = Words("death", "dead", "die", recurs=False)

    def needs(self) -> Needs:
        """A time of death in some stay."""
        return Needs(stay_columns={"death": ("died_at",)})

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """One episode for each death."""
        tolerance = pl.duration(seconds=round(self.options.tolerance_hours * 3600))
        in_unit = pl.col("died_at") <= pl.col("discharged_at") + tolerance
        counts = in_unit & pl.col("hospital_death").fill_null(value=True)
        if self.options.place is Place.hospital:
            counts = pl.col("hospital_death").fill_null(in_unit)
        died = records.stays.filter(pl.col("died_at").is_not_null() & counts)
        return died.select(
            "stay_id",
            onset="died_at",
            end=pl.lit(None),
            known_at="died_at",
            present_on_admission=pl.lit(value=False),
        )
