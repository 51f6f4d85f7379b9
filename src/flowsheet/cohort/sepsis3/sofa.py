"""The SOFA score of every hour.

Vincent et al., Intensive Care Medicine 22:707-710 (1996), doi:10.1007/BF01709751.

The score of hour h is the worst score of the facts with time in (h - 24 h, h], computed
``charting_delay_hours`` later: a fact that arrives after that counts from its arrival, for the rest
of its 24 hours. A component that was not measured in the 24 hours counts 0 in the total. The rules
of each component are in docs/sepsis3.md.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.cohort.sepsis3.coma import collect_coma_scores
from flowsheet.cohort.sepsis3.facts import (
    Score,
    as_facts,
    count_below,
    count_exceeded,
    count_reached,
    first_known_of,
    grade_variable,
    worse_of,
    worst_of_day,
)
from flowsheet.cohort.sepsis3.frames import COMPONENTS, SOFA
from flowsheet.cohort.sepsis3.gases import grade_blood_gases, grade_saturations
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid, forward_fill
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.sepsis3.urine import grade_urine
from flowsheet.cohort.sepsis3.vasopressors import ran_long_enough
from flowsheet.typing import Bools, Ints

MEASURED = (
    *("plt", "bili", "map", "crea", "gcs", "egcs", "mgcs", "vgcs"),
    *("po2", "o2sat", "fio2", "vent", "urine", "bladder_irrigant", "rrt"),
)
VASOPRESSORS = ("norepinephrine", "epinephrine", "dopamine", "dobutamine")


def grade_organs(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> dict[str, Score]:
    """The score of each component at every hour.

    Args:
        grid: The stays.
        events: The contract's table.
        treatments: The contract's table.
        options: The definition's parameters.
    """
    events = events.filter(pl.col("variable").is_in(MEASURED))
    value = pl.col("value")

    def grade(variable: str, score: pl.Expr) -> Score:
        return grade_variable(grid, events, variable, score, options)

    coma = collect_coma_scores(grid, events, options)
    brain = as_facts("cns", coma, count_below(value, (15, 13, 10, 6)))
    runs = (value >= 0.5) & options.rrt_points
    return {
        "respiration": _grade_respiration(grid, events, options),
        "coagulation": grade("plt", count_below(value, (150, 100, 50, 20))),
        "liver": grade("bili", count_reached(value, (1.2, 2, 6, 12))),
        "cardiovascular": worse_of(
            grade("map", count_below(value, (70,))), _worst_vasopressor(grid, treatments, options)
        ),
        "cns": worst_of_day(grid, brain, options),
        "renal": worse_of(
            grade("crea", count_reached(value, (1.2, 2, 3.5, 5))),
            grade_variable(grid, events.filter(runs), "rrt", pl.lit(4), options),
            grade_urine(grid, events, options),
        ),
    }


def change_since_baseline(
    grid: HourlyGrid, scores: dict[str, Score], options: Sepsis3Options
) -> Ints:
    """The change of the total score since the stay's baseline.

    A component keeps its last score while it is not measured, so that a gap in charting is not a
    rise (or is 0, with ``missing_score`` zero). Before its first measurement it is 0, or has the
    score of the first measurement (``Sepsis3Options.baseline``).

    Args:
        grid: The stays.
        scores: Per component.
        options: The definition's parameters.

    Returns:
        Shape (N,).
    """
    change = np.zeros(grid.rows, np.int64)
    for measured in scores.values():
        score, is_known = measured
        if options.missing_score == "carry":
            score, is_known = forward_fill(*measured, grid.offsets)
        baseline = np.zeros(len(grid.stay_id), np.int64)
        if options.baseline == "observed":
            stay, first_row = _first_known_rows(grid, measured[1])
            baseline[stay] = score[first_row]
        change += np.where(is_known, score - grid.per_row(baseline), 0)
    return change


def _first_known_rows(grid: HourlyGrid, known: Bools) -> tuple[Ints, Ints]:
    """The stays with any known score, and the first row of each at which it is known."""
    rows = np.flatnonzero(known)
    stay, first = np.unique(grid.row_stay[rows], return_index=True)
    return stay, rows[first]


def total_score(scores: dict[str, Score]) -> Ints:
    """The sum of the components, unknown ones counting 0, shape (N,)."""
    return np.asarray(np.sum([score for score, _ in scores.values()], axis=0, dtype=np.int64))


def score_table(grid: HourlyGrid, scores: dict[str, Score], change: Ints) -> pl.DataFrame:
    """The scores as a table with the columns ``SOFA``.

    Args:
        grid: The stays.
        scores: Per component.
        change: The change since the baseline, shape (N,).
    """
    columns: dict[str, object] = {
        "stay_id": grid.per_row(grid.stay_id),
        "hour": grid.hour,
        "time": grid.time,
        **{component: scores[component][0] for component in COMPONENTS},
        "total": total_score(scores),
        "known": sum(is_known.astype(np.int8) for _, is_known in scores.values()),
        "change": change,
    }
    score_or_null = [
        pl.when(pl.Series(scores[component][1])).then(component).alias(component)
        for component in COMPONENTS
    ]
    return pl.DataFrame(columns).with_columns(score_or_null).cast(pl.Schema(SOFA))


def _grade_respiration(grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options) -> Score:
    """By PaO2/FiO2; with ``spo2_fio2`` by SpO2/FiO2 without a blood gas in the last 24 hours."""
    score = pl.col("score")
    gases = as_facts("respiration", grade_blood_gases(grid, events, options), score)
    by_gas = worst_of_day(grid, gases, options)
    if not options.spo2_fio2:
        return by_gas
    saturations = as_facts("respiration", grade_saturations(grid, events, options), score)
    return first_known_of(by_gas, worst_of_day(grid, saturations, options))


def _worst_vasopressor(
    grid: HourlyGrid, treatments: pl.DataFrame, options: Sepsis3Options
) -> Score:
    """The worst score of the drugs that ran long enough."""
    worst = np.zeros(grid.rows, np.int64)
    is_known = np.zeros(grid.rows, bool)
    for drug in VASOPRESSORS:
        facts = _grade_vasopressors(treatments.filter(drug=drug))
        score, has_score = worst_of_day(grid, facts, options)
        counts = has_score & ran_long_enough(grid, facts, options)
        worst = np.maximum(worst, np.where(counts, score, 0))
        is_known |= counts
    return worst, is_known


def _grade_vasopressors(treatments: pl.DataFrame) -> pl.DataFrame:
    """Infusions in mcg/kg per hour; an unknown dose counts as the lowest, boluses do not count."""
    is_infusion = (
        pl.col("drug").is_in(VASOPRESSORS)
        & (pl.col("end") > pl.col("start"))
        & (pl.col("dose").fill_null(1.0) > 0)
    )
    per_minute = (pl.col("dose") / 60).round(6)
    infusions = treatments.filter(is_infusion).with_columns(time="start", rate=per_minute)
    drug, rate = pl.col("drug"), pl.col("rate")
    score = (
        pl.when(drug.is_in(["norepinephrine", "epinephrine"]))
        .then(3 + count_exceeded(rate, (0.1,)))
        .when(drug == "dopamine")
        .then(2 + count_exceeded(rate, (5, 15)))
        .otherwise(2)
    )
    return as_facts("cardiovascular", infusions, score, until="end")
