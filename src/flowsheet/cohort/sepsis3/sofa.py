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
    as_facts,
    count_below,
    count_exceeded,
    count_reached,
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


def hourly_scores(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> tuple[dict[str, Ints], dict[str, Bools]]:
    """The score of each component at every hour.

    Args:
        grid: The stays.
        events: The contract's table.
        treatments: The contract's table.
        options: The definition's parameters.

    Returns:
        The scores per component, shape (N,) each, 0 if unknown; and whether they are known.
    """
    events = events.filter(pl.col("variable").is_in(MEASURED))
    gases = grade_blood_gases(grid, events, options)
    coma = collect_coma_scores(grid, events, options)
    facts = pl.concat(
        [
            _grade_measurements(events),
            _grade_rrt(events, options),
            as_facts("cns", coma, count_below(pl.col("value"), (15, 13, 10, 6))),
            as_facts("respiration", gases, pl.col("score")),
        ]
    )
    scores: dict[str, Ints] = {}
    known: dict[str, Bools] = {}
    for component in COMPONENTS:
        of_component = facts.filter(component=component)
        scores[component], known[component] = worst_of_day(grid, of_component, options)
    urine_score, urine_known = grade_urine(grid, events, options)
    scores["renal"] = np.maximum(scores["renal"], urine_score)
    known["renal"] |= urine_known
    drug_score, drug_known = _worst_vasopressor(grid, treatments, options)
    scores["cardiovascular"] = np.maximum(scores["cardiovascular"], drug_score)
    known["cardiovascular"] |= drug_known
    if options.spo2_fio2:
        by_saturation = as_facts(
            "respiration", grade_saturations(grid, events, options), pl.col("score")
        )
        score, is_known = worst_of_day(grid, by_saturation, options)
        scores["respiration"] = np.where(known["respiration"], scores["respiration"], score)
        known["respiration"] |= is_known
    return scores, known


def change_since_baseline(
    grid: HourlyGrid, scores: dict[str, Ints], known: dict[str, Bools], options: Sepsis3Options
) -> Ints:
    """The change of the total score since the stay's baseline.

    A component keeps its last score while it is not measured, so that a gap in charting is not a
    rise (or is 0, with ``missing_score`` zero). Before its first measurement it is 0, or has the
    score of the first measurement (``Sepsis3Options.baseline``).

    Args:
        grid: The stays.
        scores: Per component, shape (N,).
        known: Whether each score is known, shape (N,).
        options: The definition's parameters.

    Returns:
        Shape (N,).
    """
    change = np.zeros(grid.rows, np.int64)
    for component in COMPONENTS:
        score, has_score = scores[component], known[component]
        if options.missing_score == "carry":
            score, has_score = forward_fill(score, has_score, grid.offsets)
        baseline = np.zeros(len(grid.stay_id), np.int64)
        if options.baseline == "observed":
            stay, first_row = _first_known_rows(grid, known[component])
            baseline[stay] = score[first_row]
        change += np.where(has_score, score - grid.per_row(baseline), 0)
    return change


def _first_known_rows(grid: HourlyGrid, known: Bools) -> tuple[Ints, Ints]:
    """The stays with any known score, and the first row of each at which it is known."""
    rows = np.flatnonzero(known)
    stay, first = np.unique(grid.row_stay[rows], return_index=True)
    return stay, rows[first]


def total_score(scores: dict[str, Ints]) -> Ints:
    """The sum of the components, unknown ones counting 0, shape (N,)."""
    return np.asarray(np.sum(list(scores.values()), axis=0, dtype=np.int64))


def score_table(
    grid: HourlyGrid, scores: dict[str, Ints], known: dict[str, Bools], change: Ints
) -> pl.DataFrame:
    """The scores as a table with the columns ``SOFA``.

    Args:
        grid: The stays.
        scores: Per component, shape (N,).
        known: Whether each score is known, shape (N,).
        change: The change since the baseline, shape (N,).
    """
    columns: dict[str, object] = {
        "stay_id": grid.per_row(grid.stay_id),
        "hour": grid.hour,
        "time": grid.time,
        **scores,
        "total": total_score(scores),
        "known": sum(known[component].astype(np.int8) for component in COMPONENTS),
        "change": change,
    }
    score_or_null = [
        pl.when(pl.Series(known[component])).then(component).alias(component)
        for component in COMPONENTS
    ]
    return pl.DataFrame(columns).with_columns(score_or_null).cast(pl.Schema(SOFA))


def _grade_measurements(events: pl.DataFrame) -> pl.DataFrame:
    value = pl.col("value")
    grades = [
        ("coagulation", "plt", count_below(value, (150, 100, 50, 20))),
        ("liver", "bili", count_reached(value, (1.2, 2, 6, 12))),
        ("cardiovascular", "map", count_below(value, (70,))),
        ("renal", "crea", count_reached(value, (1.2, 2, 3.5, 5))),
    ]
    return pl.concat(
        as_facts(component, events.filter(variable=variable), score)
        for component, variable, score in grades
    )


def _grade_rrt(events: pl.DataFrame, options: Sepsis3Options) -> pl.DataFrame:
    is_running = (pl.col("variable") == "rrt") & (pl.col("value") >= 0.5)
    return as_facts("renal", events.filter(is_running & options.rrt_points), pl.lit(4))


def _worst_vasopressor(
    grid: HourlyGrid, treatments: pl.DataFrame, options: Sepsis3Options
) -> tuple[Ints, Bools]:
    """The worst score of the drugs that ran long enough, and whether there is any; shape (N,)."""
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
