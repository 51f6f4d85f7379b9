"""Columns that follow from several variables: ratios, rates and scores that clinicians use.

They are computed from the last known values, as long as these are carried forward; NaN where one
that is needed is not known.

``shock_index``
    Heart rate / systolic pressure (doi:10.1055/s-0028-1106070).
``pulse_pressure``
    Systolic less diastolic pressure, mmHg.
``bun_creatinine``
    Blood urea nitrogen / creatinine.
``spo2_fio2``, ``pao2_fio2``
    Saturation (doi:10.1097/CCM.0b013e31819cefa9) or arterial oxygen in mmHg, each divided by the
    inspired fraction.
``rox_index``
    ``spo2_fio2`` / respiratory rate (Roca et al. 2016, doi:10.1016/j.jcrc.2016.05.022).
``neutrophil_lymphocyte``
    Neutrophils / lymphocytes.
``partial_sofa``
    SOFA points of the organs that the extract allows (doi:10.1007/BF01709751), at least two of them
    gradable; what is not known has no points.
``urine_rate``
    Urine of the last 24 hours, less irrigant, mL per kg and hour; over the hours since the first
    row where these are fewer. NaN in the first 6 hours, without any urine and without a weight.
``norepinephrine_equivalents``
    The vasopressors that run, as norepinephrine in mcg/kg/min (Goradia et al. 2021,
    doi:10.1016/j.jcrc.2020.11.002); NaN while a dose is not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.time_grid import HOUR
from flowsheet.config import FeaturesConfig
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.typing import AnyFloats, Floats, Floats32
from flowsheet.windows.features import (
    CellEvents,
    LatestValues,
    carry_forward_limits,
    select_variables,
)
from flowsheet.windows.grid import Grid, sort_by_stay
from flowsheet.windows.points import Values
from flowsheet.windows.running import add_window
from flowsheet.windows.sequences import Feature
from flowsheet.windows.sofa_points import SOFA_ORGANS
from flowsheet.windows.statics import latest_values
from flowsheet.windows.treatments import Exposures, select_drugs

_DECIMALS = 4
"""Of a value: it is float32, in which 1.2 is not the bound 1.2."""
_LEAST_ORGANS = 2
"""With fewer gradable organs there is no partial SOFA."""
_URINE_HOURS = 24
_LEAST_URINE_HOURS = 6
"""Earlier, the first reading would be divided by less time than it covers."""
_NOREPINEPHRINE = "norepinephrine_equivalents"


@dataclass(frozen=True)
class Ratio:
    """A number that follows from the last known values of some variables."""

    label: str
    needs: tuple[str, ...]
    compute: Callable[[Values], Floats]


def _divide(numerator: str, denominator: str, factor: float = 1.0) -> Callable[[Values], Floats]:
    def compute(values: Values) -> Floats:
        below = values[denominator]
        is_known = below > 0
        unknown = np.full(len(below), np.nan)
        quotient = np.divide(values[numerator], below, out=unknown, where=is_known)
        return np.asarray(factor * quotient)

    return compute


def _subtract_pressures(values: Values) -> Floats:
    return np.asarray(values["sbp"] - values["dbp"])


def _compute_rox(values: Values) -> Floats:
    per_fraction = _divide("o2sat", "fio2", 100.0)
    return np.asarray(per_fraction(values) / values["resp"])


RATIOS = {
    "shock_index": Ratio("shock index", ("hr", "sbp"), _divide("hr", "sbp")),
    "pulse_pressure": Ratio("pulse pressure", ("sbp", "dbp"), _subtract_pressures),
    "bun_creatinine": Ratio("BUN/creatinine", ("bun", "crea"), _divide("bun", "crea")),
    "spo2_fio2": Ratio("SpO2/FiO2", ("o2sat", "fio2"), _divide("o2sat", "fio2", 100.0)),
    "pao2_fio2": Ratio("PaO2/FiO2", ("po2", "fio2"), _divide("po2", "fio2", 100.0)),
    "rox_index": Ratio("ROX index", ("o2sat", "fio2", "resp"), _compute_rox),
    "neutrophil_lymphocyte": Ratio(
        "neutrophils/lymphocytes", ("neut", "lymph"), _divide("neut", "lymph")
    ),
}
_OTHERS = {
    "partial_sofa": "partial SOFA",
    "urine_rate": "urine of the last 24 h in mL/kg/h",
    _NOREPINEPHRINE: "vasopressors as norepinephrine in mcg/kg/min",
}
DERIVED = (*RATIOS, *_OTHERS)
_VARIABLES = {"urine_rate": "urine_rate_24h", _NOREPINEPHRINE: _NOREPINEPHRINE}
"""Variables of an extract that are these numbers already."""


def list_needed(name: str) -> tuple[str, ...]:
    """The variables and drugs that a derived number is made of, as far as the extract has them."""
    if name in RATIOS:
        return RATIOS[name].needs
    if name == "partial_sofa":
        return tuple(variable for organ in SOFA_ORGANS for variable in organ.variables)
    return ("urine",) if name == "urine_rate" else tuple(_norepinephrine_factors())


def label_derived(name: str) -> str:
    """A derived number for readers."""
    return RATIOS[name].label if name in RATIOS else _OTHERS.get(name, name.replace("_", " "))


class DerivedFeatures:
    """The columns of ``features.past.derived``."""

    def __init__(
        self, config: FeaturesConfig, variables: Sequence[str], drugs: Sequence[str]
    ) -> None:
        self.config = config
        self.available = select_variables(config, variables)
        self.drugs = select_drugs(config, drugs)
        self.names = self._select_names()
        self.features = tuple(
            Feature(name, "derived", name, label_derived(name)) for name in self.names
        )

    def _select_names(self) -> tuple[str, ...]:
        chosen = self.config.past.derived
        computable = tuple(name for name in DERIVED if self._is_computable(name))
        if chosen == "all":
            return tuple(n for n in computable if _VARIABLES.get(n) not in self.available)
        names = () if chosen == "none" else tuple(chosen)
        for name in names:
            self._check_name(name, computable)
        return tuple(dict.fromkeys(names))

    def _check_name(self, name: str, computable: Sequence[str]) -> None:
        if name not in DERIVED:
            raise UsageError(
                f"the features list the derived number {name!r}, which does not exist",
                where="features.past.derived",
                todo=did_you_mean(name, DERIVED),
            )
        if name not in computable:
            raise UsageError(
                f"{name} cannot be computed from the selected variables and drugs of the extract",
                where="features.past.derived",
                todo="remove it, or write derived: all to take those that can be computed",
            )

    def _is_computable(self, name: str) -> bool:
        available = {*self.available, *self.drugs}
        if name in RATIOS:
            return available.issuperset(RATIOS[name].needs)
        if name == "partial_sofa":
            return sum(organ.is_gradable(available) for organ in SOFA_ORGANS) >= _LEAST_ORGANS
        if name == "urine_rate":
            return "urine" in available
        return bool(set(self.drugs) & set(_norepinephrine_factors()))

    def fill(self, x: Floats32, grid: Grid, tables: Tables) -> None:
        """Write the columns of ``features``."""
        if not self.names:
            return
        values = self._find_values(grid, tables)
        for j, name in enumerate(self.names):
            if name in RATIOS:
                x[:, j] = RATIOS[name].compute(values)
            elif name == "partial_sofa":
                x[:, j] = self._grade_organs(values)
            elif name == "urine_rate":
                x[:, j] = _compute_urine_rate(grid, tables)
            else:
                x[:, j] = self._add_vasopressors(grid, tables)

    def _find_values(self, grid: Grid, tables: Tables) -> dict[str, Floats]:
        """The last known value of each variable that is used, and whether each drug runs, (N,)."""
        organs = {name for organ in SOFA_ORGANS for name in organ.variables}
        used = {*organs, *(need for ratio in RATIOS.values() for need in ratio.needs)}
        known = tuple(name for name in self.available if name in used)
        events = CellEvents(grid, tables.events, known)
        latest = LatestValues(grid, events, len(known))
        valid = latest.valid_values(carry_forward_limits(self.config, known))
        values = {name: np.full(grid.rows, np.nan) for name in used}
        rounded = np.round(valid.astype(np.float64), _DECIMALS)
        values |= {name: rounded[:, j] for j, name in enumerate(known)}
        drugs = [drug for drug in self.drugs if drug in organs]
        exposures = Exposures(grid, tables.treatments, drugs)
        for j, drug in enumerate(drugs):
            rows = exposures.row[exposures.column == j]
            values[drug] = (np.bincount(rows, minlength=grid.rows) > 0).astype(np.float64)
        return values

    def _grade_organs(self, values: Values) -> Floats:
        """The points of the organs that can be graded, together."""
        available = {*self.available, *self.drugs}
        organs = [organ for organ in SOFA_ORGANS if organ.is_gradable(available)]
        return np.asarray(np.sum([organ.grade(values) for organ in organs], axis=0))

    def _add_vasopressors(self, grid: Grid, tables: Tables) -> Floats:
        """The rates of the infusions that run at p(k), per minute."""
        factors = _norepinephrine_factors()
        drugs = [drug for drug in self.drugs if drug in factors]
        exposures = Exposures(grid, tables.treatments, drugs)
        factor = np.array([factors[drug] for drug in drugs])[exposures.column]
        per_minute = exposures.rate * factor / 60
        return np.asarray(np.bincount(exposures.row, per_minute, grid.rows), np.float64)


def _norepinephrine_factors() -> dict[str, float]:
    """By drug what 1 unit is worth."""
    table = catalogue.vasopressor_equivalents()
    return dict(zip(table["drug"], table["factor"].cast(pl.Float64), strict=True))


def _compute_urine_rate(grid: Grid, tables: Tables) -> Floats:
    events = CellEvents(grid, tables.events, ("urine", "bladder_irrigant"))
    is_urine = events.column == 0
    volumes = np.where(is_urine, events.value, -events.value)
    steps = -(-_URINE_HOURS * HOUR // grid.step)
    rows_before = np.arange(grid.rows) - grid.per_row(grid.offsets[:-1])

    def add(weights: Floats) -> AnyFloats:
        cells = np.bincount(events.row, weights, grid.rows).astype(np.float64)
        return add_window(cells[:, None], steps, rows_before)[:, 0]

    start = np.maximum(grid.per_row(grid.record_start), grid.predicted_at - steps * grid.step)
    hours = (grid.predicted_at - start) / HOUR
    is_known = (add(is_urine.astype(np.float64)) > 0) & (hours >= _LEAST_URINE_HOURS)
    rate = np.maximum(add(volumes), 0.0) / np.maximum(hours, 1.0) / _find_weight(grid, tables)
    return np.where(is_known, rate, np.nan)


def _find_weight(grid: Grid, tables: Tables) -> Floats:
    """The last charted weight, else that of the stay; NaN without one, shape (N,)."""
    stays = sort_by_stay(tables.stays)
    in_grid = grid.positions(stays["stay_id"].to_numpy()) >= 0
    recorded = stays["weight_kg"].cast(pl.Float64).fill_null(np.nan).to_numpy()[in_grid]
    charted = latest_values(grid, tables.events, "weight").astype(np.float64)
    weight = np.where(np.isnan(charted), grid.per_row(recorded), charted)
    return np.where(weight > 0, weight, np.nan)
