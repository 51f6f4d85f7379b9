"""Respiratory failure: a low ratio of arterial to inspired oxygen, or mechanical ventilation.

A ratio PaO2/FiO2 below 200 mmHg is the limit of moderate disease in the Berlin definition of ARDS
(Ranieri et al., JAMA 307:2526-2533 (2012), doi:10.1001/jama.2012.5669) and one of the two limits
of respiratory failure that SOFA scores (Vincent et al., Intensive Care Med 22:707-710 (1996),
doi:10.1007/BF01709751).

By default mechanical ventilation counts on its own, as a ventilated patient's own lungs cannot be
judged by the ratio; ``ventilation`` has the other rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.hourly_states import (
    Hours,
    StateOptions,
    carry,
    find_state_episodes,
    latest_value,
)
from flowsheet.cohort.responses.base import RESPONSES, Records, Response, Words
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.latest import latest_before, select_variable
from flowsheet.typing import Floats


class RespiratoryFailureOptions(StateOptions):
    """The limit, and how long a measurement counts."""

    pf_mmhg: Annotated[float, Field(gt=0, le=700)] = 200.0
    """PaO2/FiO2 below this counts."""
    ventilation: Literal["counts", "required", "ignored"] = "counts"
    """Mechanical ventilation ``counts`` on its own; is ``required`` beside the low ratio, as SOFA
    does below 200; or is ``ignored``."""
    fio2_hours: Hours = 4.0
    """The longest time from a charted inspired oxygen to the blood gas that uses it."""
    fio2_default: Annotated[float, Field(ge=21, le=100)] | None = None
    """Percent of inspired oxygen where none is charted; null: the blood gas is not used."""
    gas_hours: Hours = 12.0
    """A blood gas counts until the next one, for this long at most."""
    ventilation_hours: Hours = 8.0
    """Ventilation counts until it is charted again, for this long at most."""
    end_after_hours: Annotated[int, Field(ge=1, le=336)] = 4
    """Hours in a row without the criterion after which the episode ends."""


@RESPONSES.register("respiratory_failure")
class RespiratoryFailure(Response):
    """PaO2/FiO2 below 200 mmHg, or mechanical ventilation."""

    Options = RespiratoryFailureOptions
    words = Words("respiratory failure", "in respiratory failure", "go into respiratory failure")

    def needs(self) -> Needs:
        """Blood gases or ventilation."""
        names = ("po2",) if self.options.ventilation == "ignored" else ("po2", "vent")
        return Needs(variables={"respiratory failure": names})

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """Episodes of the criterion."""
        options = self.options
        grid = HourlyGrid.from_stays(records.stays)
        is_low = _latest_ratio(grid, records.events, options) < options.pf_mmhg
        modes = latest_value(grid, records.events, "vent", options.ventilation_hours, options)
        is_ventilated = modes >= 0.5
        is_met = {
            "counts": is_low | is_ventilated,
            "required": is_low & is_ventilated,
            "ignored": is_low,
        }[options.ventilation]
        return find_state_episodes(grid, is_met, options)


def _latest_ratio(
    grid: HourlyGrid, events: pl.DataFrame, options: RespiratoryFailureOptions
) -> Floats:
    """PaO2/FiO2 of the last blood gas of each hour in mmHg, NaN where it is not known."""
    gases = select_variable(grid, events, "po2")
    oxygen = select_variable(grid, events, "fio2")
    fio2 = latest_before(grid, gases, oxygen, options.fio2_hours, options.timing)
    if options.fio2_default is not None:
        fio2 = np.where(np.isnan(fio2), options.fio2_default, fio2)
    ratio = np.round(100 * gases["value"].to_numpy() / fio2, 6)
    is_known = ~np.isnan(ratio)
    return carry(grid, gases.filter(is_known), ratio[is_known], options.gas_hours, options)
