"""Variables that follow from several facts of a stay, for every hour.

``norepinephrine_equivalents``
    The running vasopressors together, each with its factor in
    ``concepts/vasopressor_equivalents.csv``. While one of them has an unknown dose there is no
    value; when the last one has stopped there is a 0.
``urine_rate_6h``, ``urine_rate_12h``, ``urine_rate_24h``
    Urine less irrigant over the readings that cover that many hours, per kg of the last known
    weight. It has a value at each new reading, where the readings cover less than twice the hours.
``fluid_balance``
    What was given less what went out in the last 24 hours: the drugs in mL (fluids, blood products,
    nutrition) less urine, without its irrigant, and other output. Both must be charted in them.

A value of an hour is computed ``DELAY_HOURS`` later, from the facts that are in the record then:
this is its ``known_at``, and no fact that arrives later changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import EVENTS, SORT_KEYS
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.sepsis3.infusions import Infusions
from flowsheet.cohort.sepsis3.latest import last_by_hour, select_variable
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.sepsis3.urine import collect_urine
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Floats, Ints

DELAY_HOURS = 1.0
"""A nurse charts a rate or a volume within the hour."""
URINE_HOURS = (6, 12, 24)
OUTPUTS = {"urine": 1.0, "other_output": 1.0, "bladder_irrigant": -1.0}
"""Volumes that went out, and their sign: irrigant comes out again with the urine."""

DAY = 24 * HOUR
_LARGEST_KEY = 2**62
_MICROSECONDS = 1_000_000
_OPTIONS = Sepsis3Options(charting_delay_hours=DELAY_HOURS)
_URINE_RATES = tuple(f"urine_rate_{hours}h" for hours in URINE_HOURS)


def derivable_variables(variables: Iterable[str], drugs: Iterable[str]) -> tuple[str, ...]:
    """What can be derived from these variables and drugs.

    >>> derivable_variables(["urine", "weight"], ["vasopressin"])
    ('norepinephrine_equivalents', 'urine_rate_6h', 'urine_rate_12h', 'urine_rate_24h')
    """
    variables, drugs = set(variables), set(drugs)
    names: list[str] = []
    if drugs & set(catalogue.vasopressor_equivalents()["drug"]):
        names.append("norepinephrine_equivalents")
    if {"urine", "weight"} <= variables:
        names += _URINE_RATES
    if "urine" in variables and drugs & _fluids():
        names.append("fluid_balance")
    return tuple(names)


def add_derived(
    stays: pl.DataFrame, events: pl.DataFrame, treatments: pl.DataFrame
) -> pl.DataFrame:
    """The events with the derived ones, in the contract's order.

    Args:
        stays: The contract's table, whole stays.
        events: The contract's table, without derived variables.
        treatments: The contract's table.
    """
    grid = HourlyGrid.from_stays(stays)
    charted = events.filter(pl.col("variable").is_in([*OUTPUTS, "weight"]))
    parts = [
        _derive_vasopressor_sum(grid, treatments),
        *_derive_urine_rates(grid, charted),
        _derive_fluid_balance(grid, charted, treatments),
    ]
    derived = pl.concat(parts)
    if derived.is_empty():
        return events
    return _merge(events, derived)


def _merge(events: pl.DataFrame, derived: pl.DataFrame) -> pl.DataFrame:
    """All rows in the contract's order; ``events`` has it already.

    One integer a row holds stay, second and variable: sorting two sorted runs of integers is faster
    than sorting rows by three columns.
    """
    rows = pl.concat([events, derived])
    moment = rows["time"].to_physical().to_numpy()
    second, fraction = np.divmod(moment - moment.min(), _MICROSECONDS)
    span = int(second.max()) + 1
    stay_ids, names = rows["stay_id"].unique().sort(), sorted(rows["variable"].unique())
    if np.ptp(fraction) or span * len(stay_ids) * len(names) > _LARGEST_KEY:
        return rows.sort(SORT_KEYS["events"])
    stay = np.searchsorted(stay_ids.to_numpy(), rows["stay_id"].to_numpy())
    name = rows["variable"].cast(pl.Enum(names)).to_physical().to_numpy()
    key = (stay * span + second) * len(names) + name
    return rows[np.argsort(key, kind="stable")]


def _as_events(grid: HourlyGrid, variable: str, value: Floats, is_known: Bools) -> pl.DataFrame:
    """The values of the hours at which they are known, as the contract's events.

    Implausible ones are left out.
    """
    limits = catalogue.variable(variable)
    value = np.round(value, 6) + 0.0  # not -0.0
    is_inside = (value >= limits.low) & (value <= limits.high)
    is_kept = is_known & is_inside & (grid.time <= grid.per_row(grid.discharged))
    time = grid.time[is_kept]
    rows = {
        "stay_id": grid.per_row(grid.stay_id)[is_kept],
        "time": time,
        "known_at": time + from_hours(DELAY_HOURS),
        "value": value[is_kept],
    }
    named = pl.DataFrame(rows).with_columns(variable=pl.lit(variable))
    return named.select(list(EVENTS)).cast(pl.Schema(EVENTS))


def _derive_vasopressor_sum(grid: HourlyGrid, treatments: pl.DataFrame) -> pl.DataFrame:
    rows = _of_grid(grid, treatments.filter(pl.col("end") > pl.col("start")))
    rows = rows.join(catalogue.vasopressor_equivalents().select("drug", "factor"), on="drug")
    rows = rows.sort("stay_id", "start", "drug", "end", "known_at", "dose")
    stay = grid.stay_positions(rows)
    start, stop = _counting_times(rows, "start"), microseconds(rows["end"])
    per_minute = (rows["dose"].fill_null(0.0) * rows["factor"] / 60).to_numpy()
    running = grid.total(stay, start, stop, np.ones(len(stay)))
    unknown = grid.total(stay, start, stop, rows["dose"].is_null().cast(pl.Int64).to_numpy())
    is_running = running > 0
    ran_before = np.append(False, is_running[:-1])[: len(is_running)]
    ran_before[grid.offsets[:-1][grid.lengths > 0]] = False
    value = np.where(is_running, grid.total(stay, start, stop, per_minute), 0.0)
    is_known = (is_running & (unknown == 0)) | (~is_running & ran_before)
    return _as_events(grid, "norepinephrine_equivalents", value, is_known)


def _derive_urine_rates(grid: HourlyGrid, events: pl.DataFrame) -> Iterable[pl.DataFrame]:
    weight = last_by_hour(grid, select_variable(grid, events, "weight"), _OPTIONS)
    for name, hours in zip(_URINE_RATES, URINE_HOURS, strict=True):
        output = collect_urine(grid, events, hours * HOUR, _OPTIONS)
        covers = (output.covered >= hours * HOUR) & (output.covered < 2 * hours * HOUR)
        is_known = output.is_new & covers & (output.volume >= 0) & ~np.isnan(weight)
        per_hour = output.volume * HOUR / np.maximum(output.covered, 1)
        yield _as_events(grid, name, per_hour / np.where(is_known, weight, 1.0), is_known)


def _derive_fluid_balance(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame
) -> pl.DataFrame:
    given, has_input = _sum_inputs(grid, treatments)
    lost, has_output = _sum_outputs(grid, events)
    return _as_events(grid, "fluid_balance", given - lost, has_input & has_output)


def _sum_inputs(grid: HourlyGrid, treatments: pl.DataFrame) -> tuple[Floats, Bools]:
    """The volume given in the 24 hours before each hour, and whether any is charted."""
    fluids = _of_grid(grid, treatments.filter(pl.col("drug").is_in(_fluids())))
    fluids = fluids.drop_nulls("dose").sort("stay_id", "start", "drug", "end", "known_at", "dose")
    is_infusion = (fluids["end"] > fluids["start"]).to_numpy()
    doses = fluids.filter(~is_infusion)
    stay = grid.stay_positions(doses)
    begin, stop = _counting_times(doses, "start"), microseconds(doses["start"]) + DAY
    volume = grid.total(stay, begin, stop, doses["dose"].to_numpy())
    has_dose = grid.covered(stay, begin, stop)

    rows = fluids.filter(is_infusion)
    stay = grid.stay_positions(rows)
    admitted = grid.admitted[stay]
    begin = _counting_times(rows, "start")
    infusions = Infusions(
        stay,
        microseconds(rows["start"]) - admitted,
        microseconds(rows["end"]) - admitted,
        begin - admitted,
        rows["dose"].to_numpy() / HOUR,
    )
    volume = volume + infusions.given(grid, lag=0) - infusions.given(grid, lag=DAY)
    has_infusion = grid.covered(stay, begin, microseconds(rows["end"]) + DAY)
    return volume, has_dose | has_infusion


def _sum_outputs(grid: HourlyGrid, events: pl.DataFrame) -> tuple[Floats, Bools]:
    """The volume that went out in the 24 hours before each hour, and whether any is charted."""
    rows = select_variable(grid, events, *OUTPUTS)
    sign = rows["variable"].replace_strict(OUTPUTS, return_dtype=pl.Float64)
    stay = grid.stay_positions(rows)
    start, stop = _counting_times(rows, "time"), microseconds(rows["time"]) + DAY
    volume = grid.total(stay, start, stop, (rows["value"] * sign).to_numpy())
    is_output = (rows["variable"] != "bladder_irrigant").to_numpy()
    return volume, grid.covered(stay[is_output], start[is_output], stop[is_output])


def _counting_times(rows: pl.DataFrame, time: str) -> Ints:
    """The first moment whose hour may use each row."""
    known = microseconds(rows["known_at"]) - from_hours(DELAY_HOURS)
    return np.asarray(np.maximum(microseconds(rows[time]), known))


def _of_grid(grid: HourlyGrid, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(grid.stay_positions(rows) >= 0)


@lru_cache(maxsize=1)
def _fluids() -> frozenset[str]:
    """The drugs whose amount is a volume."""
    return frozenset(name for name, drug in catalogue.drugs().items() if drug.unit == "mL")
