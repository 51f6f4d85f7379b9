"""Circulatory failure: low pressure or a vasopressor, with a raised lactate.

Hyland et al., Nat Med 26:364-373 (2020), doi:10.1038/s41591-020-0789-4: mean arterial pressure of
65 mmHg or less, or any vasopressor or inotrope, while lactate is 2 mmol/L or more. They judge every
5 minutes and interpolate lactate; here every hour is judged, and a value counts until the next.
"""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

from flowsheet.cohort import catalogue
from flowsheet.cohort.completeness import Needs
from flowsheet.cohort.hourly_states import (
    Hours,
    StateOptions,
    find_state_episodes,
    is_running,
    latest_value,
)
from flowsheet.cohort.responses.base import RESPONSES, Records, Response, Words
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid


class CirculatoryFailureOptions(StateOptions):
    """The limits, and how long a measurement counts."""

    map_mmhg: Annotated[float, Field(gt=0, le=200)] = 65.0
    """The highest mean arterial pressure that counts as low."""
    map_hours: Hours = 2.0
    """A pressure counts until the next one, for this long at most."""
    groups: tuple[str, ...] = ("vasopressor", "inotrope")
    """Groups of drugs (`flowsheet ls drugs`) of which a running infusion counts."""
    lactate_mmol_l: Annotated[float, Field(gt=0, le=50)] = 2.0
    """The lowest lactate that counts as raised."""
    lactate_hours: Hours = 12.0
    """A lactate counts until the next one, for this long at most."""
    end_after_hours: Annotated[int, Field(ge=1, le=336)] = 4
    """Hours in a row without the criterion after which the episode ends."""


@RESPONSES.register("circulatory_failure")
class CirculatoryFailure(Response):
    """Low pressure or a vasopressor, with lactate of 2 mmol/L or more."""

    Options = CirculatoryFailureOptions
    words = Words("circulatory failure", "in circulatory failure", "go into circulatory failure")

    def needs(self) -> Needs:
        """Pressure and lactate."""
        return Needs(variables={"circulatory failure": ("lact",), "blood pressure": ("map",)})

    def find_episodes(self, records: Records) -> pl.DataFrame:
        """Episodes of the criterion."""
        options = self.options
        grid = HourlyGrid.from_stays(records.stays)
        drugs = [n for n, drug in catalogue.drugs().items() if drug.group in options.groups]
        pressure = latest_value(grid, records.events, "map", options.map_hours, options)
        lactate = latest_value(grid, records.events, "lact", options.lactate_hours, options)
        is_low = pressure <= options.map_mmhg
        is_low |= is_running(grid, records.treatments, drugs, options)
        is_met = is_low & (lactate >= options.lactate_mmol_l)
        return find_state_episodes(grid, is_met, options)
