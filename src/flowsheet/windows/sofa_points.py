"""The points of the six organs of SOFA, by the last known values.

Vincent et al., Intensive Care Med 22:707 (1996), doi:10.1007/BF01709751. The kidneys are graded by
creatinine, urine is not.
"""

from __future__ import annotations

import numpy as np

from flowsheet.typing import Bools, Floats
from flowsheet.windows.points import Component, Values, add_up, count_at_least, count_below

_HIGHEST_SATURATION = 97.0
"""Above it the saturation says little about the oxygen in the blood (Rice et al. 2007)."""
_STRONG = ("norepinephrine", "epinephrine")
_WEAK = ("dopamine", "dobutamine")


def _grade_respiration(values: Values) -> Floats:
    """PaO2/FiO2; without a blood gas SpO2/FiO2, whose bounds are Pandharipande's (2009)."""
    is_ventilated = values["vent"] >= 0.5
    by_gas = np.round(100 * values["po2"] / values["fio2"], 6)
    saturation = np.where(values["o2sat"] <= _HIGHEST_SATURATION, values["o2sat"], np.nan)
    by_saturation = np.round(100 * saturation / values["fio2"], 6)
    return np.where(
        np.isfinite(by_gas),
        _grade_ratio(by_gas, (400, 300, 200, 100), is_ventilated),
        _grade_ratio(by_saturation, (512, 357, 214, 89), is_ventilated),
    )


def _grade_ratio(ratio: Floats, bounds: tuple[float, ...], is_ventilated: Bools) -> Floats:
    """A point for each bound that the ratio is below, the last two only with ventilation."""
    counts = [ratio < bound for bound in bounds[:2]]
    counts += [(ratio < bound) & is_ventilated for bound in bounds[2:]]
    return add_up(counts)


def _grade_circulation(values: Values) -> Floats:
    """Low pressure 1; dopamine or dobutamine 2, norepinephrine or epinephrine 3, much of it 4.

    A drug whose rate is not among the inputs has its lowest points.
    """
    pressure = 1.0 * (values["map"] < 70)
    weak = 2.0 * np.any([values[drug] > 0 for drug in _WEAK], axis=0)
    rate = values["norepinephrine_equivalents"]
    runs = np.any([values[drug] > 0 for drug in _STRONG], axis=0)
    is_only_weak = (weak > 0) & ~runs
    strong = 3.0 * (runs | ((rate > 0) & ~is_only_weak))
    much = 1.0 * ((strong > 0) & (rate > 0.1))
    return np.asarray(np.maximum.reduce([pressure, weak, strong + much]))


SOFA_ORGANS = (
    Component(
        "respiration",
        ("po2", "fio2", "o2sat", "vent"),
        _grade_respiration,
        needs=(("po2", "fio2"), ("o2sat", "fio2")),
    ),
    Component("coagulation", ("plt",), count_below("plt", (150, 100, 50, 20))),
    Component("liver", ("bili",), count_at_least("bili", (1.2, 2, 6, 12))),
    Component(
        "circulation",
        ("map", "norepinephrine_equivalents", *_STRONG, *_WEAK),
        _grade_circulation,
    ),
    Component("brain", ("gcs",), count_below("gcs", (15, 13, 10, 6))),
    Component("kidneys", ("crea",), count_at_least("crea", (1.2, 2, 3.5, 5))),
)
