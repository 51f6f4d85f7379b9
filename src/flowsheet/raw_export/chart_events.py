"""Rows of CHARTEVENTS, LABEVENTS and OUTPUTEVENTS: a day's template applied to the days of stays.

Each row has a true value, and some rows have a data error.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from flowsheet.raw_export.day_template import (
    FLAGGED_ERROR,
    OUT_OF_RANGE,
    TEXT_VALUE,
    VALID,
    DayTemplate,
)
from flowsheet.raw_export.items import SYSTEMS, load_quantities
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.patients import Patients
from flowsheet.typing import Bools, Floats, Ints, Times

Outcomes = NDArray[np.int8]

_N_BITS = 1 << 16
_NORMAL_BY_BITS = ndtri((np.arange(_N_BITS) + 0.5) / _N_BITS)
"""A standard normal number for each value of 16 random bits."""

MISSING_ID, DUPLICATE, NOT_CHARTED = 4, 5, 6
"""Outcomes of a planned row, beside the variants of its cell."""

ERROR_NAMES = {
    TEXT_VALUE: "text_values",
    OUT_OF_RANGE: "out_of_range",
    FLAGGED_ERROR: "flagged_errors",
    MISSING_ID: "missing_ids",
    DUPLICATE: "duplicates",
}


@dataclass(frozen=True)
class ChartedRows:
    """Rows of a table, in the order of the file; D days with K charting times each."""

    stay: Ints
    """Position of the row's stay."""
    has_id: Bools
    time_index: Ints
    """Position in ``chart_times`` and ``store_times``."""
    entry: Ints
    """Position of the item in the dictionary."""
    cell: Ints
    """Position of the end of the row in the dictionary's texts."""
    chart_times: Times
    """(D * K,)"""
    store_times: Times
    """(D * K,)"""
    truth: pl.DataFrame
    """The values that a cohort should contain."""
    error_counts: Counter[str]
    """Rows by data error, and ``rows`` and ``mapped_rows``."""


@dataclass(frozen=True)
class DayDraws:
    """Random numbers of D days with R rows at K times; they are the same in every chart system."""

    bits: NDArray[np.uint32]
    """(D, R)"""
    minutes_late: Ints
    """(D, K) minutes from the planned time to CHARTTIME."""
    minutes_until_stored: Ints
    """(D, K) minutes from CHARTTIME to STORETIME."""


def draw_days(
    template: DayTemplate, n_days: int, options: ExportOptions, rng: np.random.Generator
) -> DayDraws:
    """Draw what is charted on some days: mostly on the hour, and stored minutes later.

    Args:
        template: the day of the table, in any chart system.
        n_days: how many.
        options: the share of times that are stored early.
        rng: random numbers.
    """
    shape = (n_days, len(template.minutes))
    minutes_late = np.where(rng.random(shape) < 0.2, rng.integers(1, 15, shape), 0)
    wait = 1 + rng.exponential(25, shape).astype(np.int64)
    is_early = rng.random(shape) < options.stored_early
    return DayDraws(
        bits=rng.integers(0, 1 << 32, (n_days, len(template.time_index)), dtype=np.uint32),
        minutes_late=minutes_late,
        minutes_until_stored=np.where(is_early, -rng.integers(1, 10, shape), wait),
    )


def chart_days(
    template: DayTemplate,
    patients: Patients,
    options: ExportOptions,
    draws: DayDraws,
    *,
    with_flagged: bool,
) -> ChartedRows:
    """Chart the days of patients of one chart system; a row takes about 100 bytes of memory.

    Args:
        template: the day of the table in this chart system.
        patients: the stays, their days and the levels of their quantities.
        options: the rates of data errors.
        draws: random numbers of all days of the block.
        with_flagged: chart rows that are flagged as an error; otherwise they are left out.
    """
    n_planned = len(template.time_index)
    bits = draws.bits[patients.day]
    value_bits = (bits & (_N_BITS - 1)).astype(np.int32)
    is_mapped = template.quantity >= 0
    outcome_table = _make_outcome_table(template, options)
    if not with_flagged:
        outcome_table[outcome_table == FLAGGED_ERROR] = NOT_CHARTED
    outcome = outcome_table[is_mapped.astype(int)[None, :], bits >> 16]
    entry = template.entry[patients.charting_style[patients.day_stay]]
    cell = _choose_cells(template, patients, entry, value_bits)
    chart_times, store_times = _compute_times(template, patients, draws)

    position = np.flatnonzero(outcome != NOT_CHARTED)
    row_outcome = outcome.ravel()[position]
    error_counts = _count_errors(row_outcome, is_mapped[position % n_planned])
    recoverable = _find_recoverable(template, position, row_outcome)
    truth = _collect_true_values(
        template, patients, recoverable, cell.ravel()[recoverable], (chart_times, store_times)
    )

    repeats = 1 + (row_outcome == DUPLICATE)
    position = np.repeat(position, repeats)
    row_outcome = np.repeat(row_outcome, repeats)
    variant = np.where(row_outcome <= FLAGGED_ERROR, row_outcome, VALID).astype(np.int64)
    day = position // n_planned
    return ChartedRows(
        stay=patients.day_stay[day],
        has_id=row_outcome != MISSING_ID,
        time_index=day * len(template.minutes) + template.time_index[position % n_planned],
        entry=entry.ravel()[position],
        cell=cell.ravel()[position] + variant * len(template.dictionary.value),
        chart_times=chart_times,
        store_times=store_times,
        truth=truth,
        error_counts=error_counts,
    )


def _make_outcome_table(template: DayTemplate, options: ExportOptions) -> Outcomes:
    """(2, _N_BITS): outcomes by 16 random bits, for unmapped items and for mapped ones."""
    has_error_flag = template.table == "CHARTEVENTS" and SYSTEMS[template.system] == "metavision"
    rates = {
        NOT_CHARTED: options.not_charted,
        DUPLICATE: options.duplicates,
        MISSING_ID: options.missing_stay_ids,
        TEXT_VALUE: options.text_values,
        OUT_OF_RANGE: options.out_of_range,
        FLAGGED_ERROR: options.flagged_errors if has_error_flag else 0.0,
    }
    table = np.zeros((2, _N_BITS), dtype=np.int8)
    start = 0
    for outcome, rate in rates.items():
        end = start + round(rate * _N_BITS)
        table[1, start:end] = outcome
        if outcome in (MISSING_ID, DUPLICATE, NOT_CHARTED):
            table[0, start:end] = outcome
        start = end
    return table


def _choose_cells(
    template: DayTemplate, patients: Patients, entry: Ints, value_bits: NDArray[np.int32]
) -> Ints:
    """(D, R) positions of the cells: a random one for unmapped items, the value's for others.

    Args:
        template: the day of the table.
        patients: the stays and the levels of their quantities.
        entry: (D, R) entries of the dictionary.
        value_bits: (D, R) 16 random bits each.
    """
    dictionary = template.dictionary
    index = (dictionary.n_cells.astype(np.int32)[entry] * value_bits) >> 16
    mapped = np.flatnonzero(template.quantity >= 0)
    noise = _NORMAL_BY_BITS[value_bits[:, mapped]]
    index[:, mapped] = _measure(template, patients, entry[:, mapped], noise, mapped)
    return np.asarray(dictionary.first_cell[entry] + index)


def _measure(
    template: DayTemplate, patients: Patients, entry: Ints, noise: Floats, columns: Ints
) -> Ints:
    """(D, M) positions of the measured values among their entry's cells.

    Args:
        template: the day of the table.
        patients: the stays and the levels of their quantities.
        entry: (D, M) entries of the dictionary.
        noise: (D, M) standard normal numbers.
        columns: (M,) the template's rows of mapped items.
    """
    quantity = template.quantity[columns]
    noise_sd = np.array([q.noise_sd for q in load_quantities()])[quantity]
    septic_shift = np.array([q.septic_shift for q in load_quantities()])[quantity]
    hour = template.minutes[template.time_index[columns]] // 60
    level = patients.level.T[:, quantity]
    value = level + noise_sd * noise + septic_shift * patients.septic[:, hour]
    dictionary = template.dictionary
    charted = value * dictionary.scale[entry] + dictionary.offset[entry]
    index = np.rint((charted - dictionary.low[entry]) / dictionary.step[entry])
    return np.asarray(np.clip(index, 0, dictionary.n_cells[entry] - 1).astype(np.int32))


def _compute_times(
    template: DayTemplate, patients: Patients, draws: DayDraws
) -> tuple[Times, Times]:
    """(D * K,) CHARTTIME and STORETIME."""
    minutes = template.minutes + draws.minutes_late[patients.day]
    chart_times = patients.day_start[:, None] + minutes.astype("timedelta64[m]")
    wait = draws.minutes_until_stored[patients.day].astype("timedelta64[m]")
    return chart_times.ravel(), (chart_times + wait).ravel()


def _count_errors(outcome: Outcomes, is_mapped: Bools) -> Counter[str]:
    """Rows of mapped items by data error, before any is duplicated; and rows in all."""
    n = np.bincount(outcome[is_mapped], minlength=DUPLICATE + 1)
    counts = Counter({name: int(n[code]) for code, name in ERROR_NAMES.items()})
    counts["mapped_rows"] = int(is_mapped.sum())
    counts["rows"] = len(outcome) + int((outcome == DUPLICATE).sum())
    return counts


def _find_recoverable(template: DayTemplate, position: Ints, outcome: Outcomes) -> Ints:
    """Positions of the rows whose value a cohort should contain."""
    has_value = (outcome == VALID) | (outcome == MISSING_ID) | (outcome == DUPLICATE)
    is_mapped = template.quantity[position % len(template.time_index)] >= 0
    return np.asarray(position[has_value & is_mapped])


def _collect_true_values(
    template: DayTemplate,
    patients: Patients,
    position: Ints,
    cell: Ints,
    times: tuple[Times, Times],
) -> pl.DataFrame:
    """(icustay_id, time, stored_at, variable, value in the catalogue's unit).

    Args:
        template: the day of the table.
        patients: the stays and their days.
        position: positions of the rows in the (D, R) plan.
        cell: their positions in the dictionary.
        times: CHARTTIME and STORETIME, (D * K,) each.
    """
    day, row = np.divmod(position, len(template.time_index))
    time_index = day * len(template.minutes) + template.time_index[row]
    chart_times, store_times = times
    variables = pl.Series([q.variable or q.name for q in load_quantities()])
    return pl.DataFrame(
        {
            "icustay_id": patients.stays["icustay_id"].gather(patients.day_stay[day]),
            "time": chart_times[time_index],
            "stored_at": store_times[time_index],
            "variable": variables.gather(template.quantity[row]),
            "value": template.dictionary.value[cell],
        }
    )
