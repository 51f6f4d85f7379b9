"""SOFA, hour by hour (Vincent et al., Intensive Care Medicine 22:707-710, 1996,
doi:10.1007/BF01709751).

The score of hour h takes the worst of the facts with time in (h - 24 h, h], read ``charting_delay_hours``
later: a fact that reached the record after that counts from when it did, for what is left of its 24
hours. What was not measured in the 24 hours counts 0 in the total. See docs/sepsis3.md for the
rules of each component.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME
from flowsheet.cohort.sepsis3.frames import COMPONENTS, SOFA
from flowsheet.cohort.sepsis3.gases import graded_gases
from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid, forward_fill
from flowsheet.cohort.sepsis3.options import Sepsis3Options
from flowsheet.cohort.time_grid import HOUR, from_hours, microseconds
from flowsheet.typing import Bools, Ints

DAY = 24 * HOUR
MEASURED = (
    "plt",
    "bili",
    "map",
    "crea",
    "gcs",
    "egcs",
    "mgcs",
    "vgcs",
    "po2",
    "fio2",
    "vent",
    "urine",
)
VASOPRESSORS = ("norepinephrine", "epinephrine", "dopamine", "dobutamine")

FACTS: dict[str, pl.DataType] = {
    "component": pl.String(),
    "stay_id": pl.Int64(),
    "time": TIME,
    "until": TIME,  # equal to time where it is one measurement
    "known_at": TIME,
    "score": pl.Int8(),
}


def hourly(
    grid: HourlyGrid, events: pl.DataFrame, treatments: pl.DataFrame, options: Sepsis3Options
) -> tuple[dict[str, Ints], dict[str, Bools]]:
    """Score and whether it is known, per component, shape (N,) each; 0 where it is not."""
    events = events.filter(pl.col("variable").is_in(MEASURED))
    gases = _facts("respiration", graded_gases(grid, events, options), pl.col("score"))
    facts = pl.concat([_graded(events), _coma(events), gases, _vasopressors(treatments)])
    scores, known = {}, {}
    for component in COMPONENTS:
        scores[component], known[component] = _worst(
            grid, facts.filter(component=component), options
        )
    urine, judged = _urine(grid, events.filter(variable="urine"), options)
    scores["renal"] = np.maximum(scores["renal"], urine)
    known["renal"] |= judged
    return scores, known


def change(
    grid: HourlyGrid, scores: dict[str, Ints], known: dict[str, Bools], options: Sepsis3Options
) -> Ints:
    """The score's change since the stay's baseline, shape (N,).

    A component keeps its last score while it is not measured, and before it was first measured it
    was what it was then (or 0, see ``baseline``): neither the begin of charting nor a gap in it is
    a rise.
    """
    changed = np.zeros(grid.rows)
    for component in COMPONENTS:
        score, begun = forward_fill(scores[component], known[component], grid.offsets)
        base = np.zeros(len(grid.stay_id))
        stay, first = _first_known(grid, known[component])
        late = grid.hour[first] > options.admission_hours
        base[stay] = np.where(late | (options.baseline == "observed"), score[first], 0)
        changed += np.where(begun, score - np.repeat(base, grid.lengths), 0)
    return changed.astype(np.int64)


def _first_known(grid: HourlyGrid, known: Bools) -> tuple[Ints, Ints]:
    """Each stay at which anything is known, and its first row at which it is."""
    rows = np.flatnonzero(known)
    stay, at = np.unique(grid.row_stay[rows], return_index=True)
    return stay, rows[at]


def total(scores: dict[str, Ints]) -> Ints:
    """The sum over the components, what is unknown counting 0, shape (N,)."""
    return np.asarray(np.sum(list(scores.values()), axis=0, dtype=np.int64))


def table(
    grid: HourlyGrid, scores: dict[str, Ints], known: dict[str, Bools], changed: Ints
) -> pl.DataFrame:
    """The scores as a frame of the columns ``SOFA``."""
    columns: dict[str, object] = {
        "stay_id": np.repeat(grid.stay_id, grid.lengths),
        "hour": grid.hour,
        "time": grid.time,
        **scores,
        "total": total(scores),
        "known": sum(known[component].astype(np.int8) for component in COMPONENTS),
        "change": changed,
    }
    frame = pl.DataFrame(columns).with_columns(
        pl.when(pl.Series(known[component])).then(component).alias(component)
        for component in COMPONENTS
    )
    return frame.cast(pl.Schema(SOFA))


def _worst(grid: HourlyGrid, facts: pl.DataFrame, options: Sepsis3Options) -> tuple[Ints, Bools]:
    stay = grid.stay_positions(facts)
    time, until, known_at = (microseconds(facts[name]) for name in ("time", "until", "known_at"))
    start, stop = np.maximum(time, known_at - from_hours(options.charting_delay_hours)), until + DAY
    score, here = facts["score"].to_numpy(), stay >= 0

    def at_least(level: int) -> Bools:
        some = here & (score >= level)
        return grid.covered(stay[some], start[some], stop[some])

    return np.sum([at_least(level) for level in range(1, 5)], axis=0, dtype=np.int64), at_least(0)


def _steps(value: pl.Expr, bounds: Sequence[float], *, below: bool) -> pl.Expr:
    """How many bounds the value is below, or at or above."""
    return pl.sum_horizontal(
        (value < bound if below else value >= bound).cast(pl.Int8) for bound in bounds
    )


def _facts(component: str, rows: pl.DataFrame, score: pl.Expr, until: str = "time") -> pl.DataFrame:
    return rows.select(
        "stay_id",
        "time",
        "known_at",
        component=pl.lit(component),
        until=pl.col(until),
        score=score.cast(pl.Int8),
    ).select(list(FACTS))


def _graded(events: pl.DataFrame) -> pl.DataFrame:
    value = pl.col("value")
    rules = [
        ("coagulation", "plt", _steps(value, (150, 100, 50, 20), below=True)),
        ("liver", "bili", _steps(value, (1.2, 2, 6, 12), below=False)),
        ("cardiovascular", "map", _steps(value, (70,), below=True)),
        ("renal", "crea", _steps(value, (1.2, 2, 3.5, 5), below=False)),
    ]
    return pl.concat(
        _facts(component, events.filter(variable=name), score) for component, name, score in rules
    )


def _coma(events: pl.DataFrame) -> pl.DataFrame:
    """The charted total, or the sum of the parts where all three and no total are charted at one time."""
    total = events.filter(variable="gcs").select("stay_id", "time", "known_at", "value")
    parts = events.filter(pl.col("variable").is_in(["egcs", "mgcs", "vgcs"])).group_by(
        "stay_id", "time"
    )
    summed = parts.agg(
        pl.col("known_at").max(), pl.col("value").sum(), n=pl.len()
    )  # each variable comes once
    summed = (
        summed.filter(n=3).join(total, on=["stay_id", "time"], how="anti").select(total.columns)
    )
    return _facts(
        "cns", pl.concat([total, summed]), _steps(pl.col("value"), (15, 13, 10, 6), below=True)
    )


def _vasopressors(treatments: pl.DataFrame) -> pl.DataFrame:
    """Doses in mcg/kg per hour; what has no dose counts as the lowest, a push is not an infusion."""
    running = treatments.filter(
        pl.col("drug").is_in(VASOPRESSORS)
        & (pl.col("end") > pl.col("start"))
        & (pl.col("dose").fill_null(1.0) > 0)
    ).with_columns(time="start", rate=(pl.col("dose") / 60).round(6))
    catecholamine = 3 + (pl.col("rate") > 0.1).fill_null(value=False).cast(pl.Int8)
    dopamine = 2 + _steps_above(pl.col("rate"), (5, 15))
    drug = pl.col("drug")
    score = (
        pl.when(drug.is_in(["norepinephrine", "epinephrine"]))
        .then(catecholamine)
        .when(drug == "dopamine")
        .then(dopamine)
        .otherwise(2)
    )
    return _facts("cardiovascular", running, score, until="end")


def _steps_above(value: pl.Expr, bounds: Sequence[float]) -> pl.Expr:
    return pl.sum_horizontal(
        (value > bound).fill_null(value=False).cast(pl.Int8) for bound in bounds
    )


def _urine(grid: HourlyGrid, events: pl.DataFrame, options: Sepsis3Options) -> tuple[Ints, Bools]:
    """Renal score by urine and whether it could be judged, shape (N,) each.

    A reading speaks of the time since the one before it, the first of the time since admission.
    Readings that reach the record late are not used: the time that others speak of would change
    after the fact.
    """
    prompt = pl.col("known_at") - pl.col("time") <= pl.duration(
        microseconds=from_hours(options.charting_delay_hours)
    )
    rows = (
        events.filter(prompt)
        .group_by("stay_id", "time")
        .agg(pl.col("value").sum())
        .sort("stay_id", "time")
    )
    stay = grid.stay_positions(rows)
    rows, stay = rows.filter(stay >= 0), stay[stay >= 0]
    time = microseconds(rows["time"])
    inside = time > grid.admitted[stay]
    stay, time, amount = stay[inside], time[inside], rows["value"].to_numpy()[inside]
    again = np.append(False, stay[1:] == stay[:-1])[: len(stay)]
    before = np.where(again, np.append(0, time[:-1])[: len(time)], grid.admitted[stay])
    volume = grid.total(stay, time, time + DAY, amount)
    span = np.rint(grid.total(stay, time, time + DAY, (time - before).astype(float)))
    low, high = (from_hours(bound) for bound in options.urine_covered_hours)
    judged = (span >= low) & (span <= high)
    daily = np.round(volume * DAY / np.where(judged, span, 1), 6)
    score = 3 * (daily < 500) + (daily < 200)
    return np.where(judged, score, 0), judged
