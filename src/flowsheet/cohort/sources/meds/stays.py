"""Intensive care stays out of a MEDS data set's admissions, discharges and people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from flowsheet.cohort.rules import HOSPITAL_TOLERANCE_HOURS
from flowsheet.cohort.schema import STAYS
from flowsheet.cohort.sources.base import DEFECTS
from flowsheet.cohort.sources.meds.shards import STAY

KINDS = ("icu_admission", "icu_discharge", "hospital_admission", "birth", "sex")
RULES = (
    "icu_admission_twice",
    "admission_without_discharge",
    "discharge_without_admission",
    "admission_time",
)
SHIFTED_YEARS, SHIFTED_AGE = 200.0, 91.4
"""Nobody is that old: MIMIC-III moves the births of people over 89 by 300 years; their median age
is 91.4 (Johnson et al., Scientific Data 3:160035, 2016)."""

_NAMES = ("stay_id", "subject_id", "admitted_at", "discharged_at", "unit")


def build(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The contract's stays, in order, and the defects of admissions and discharges that make none.

    ``rows`` has the columns of ``_meds_shards.ROWS``, ``kind`` and ``name``, in any order.
    """
    timed = rows.filter(pl.col("time").is_not_null() | pl.col("kind").is_in(["birth", "sex"]))
    undated = rows.join(timed, on=rows.columns, how="anti", nulls_equal=True)
    order = ["subject_id", "time", "code", STAY]
    begun = timed.filter(kind="icu_admission").unique().sort(order)
    ended = timed.filter(kind="icu_discharge").unique().sort(order)
    own = begun.height > 0 and begun[STAY].null_count() == 0
    stays, defects = _by_id(begun, ended) if own else _by_time(begun, ended)
    stays = _with_people(_with_hospital(stays, timed), timed)
    return stays, pl.concat([*defects, _defects(undated, "admission_time")])


def _by_id(begun: pl.DataFrame, ended: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Stays by the database's own ids: an admission and a discharge with the same one."""
    key = ["subject_id", STAY]
    again = pl.col(STAY).is_duplicated()
    once = begun.filter(~again)
    last = ended.sort("time").unique(key, keep="last", maintain_order=True)
    both = once.join(
        last.select(*key, discharged_at="time"), on=key, how="left", maintain_order="left"
    )
    defects = [
        _defects(begun.filter(again), "icu_admission_twice"),
        _defects(both.filter(pl.col("discharged_at").is_null()), "admission_without_discharge"),
        _defects(
            ended.join(begun, on=key, how="anti", maintain_order="left"),
            "discharge_without_admission",
        ),
    ]
    return _named(both.with_columns(stay_id=STAY)), defects


def _by_time(begun: pl.DataFrame, ended: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Stays numbered in order of subject and time: an admission and the next discharge, before another admission."""
    again = pl.struct("subject_id", "time").is_duplicated()
    begun, twice = begun.filter(~again), begun.filter(again)
    after = pl.col("time").shift(-1).over("subject_id", order_by="time")
    left = begun.with_columns(next=after).sort("time")
    right = ended.select("subject_id", discharged_at="time").sort("discharged_at")
    pairs = left.join_asof(
        right,
        left_on="time",
        right_on="discharged_at",
        by="subject_id",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).sort("subject_id", "time")
    in_time = pl.col("next").is_null() | (pl.col("discharged_at") <= pl.col("next"))
    pairs = pairs.with_columns(pl.when(in_time).then("discharged_at").alias("discharged_at"))
    taken = pairs.select("subject_id", time="discharged_at").drop_nulls()
    defects = [
        _defects(twice, "icu_admission_twice"),
        _defects(pairs.filter(pl.col("discharged_at").is_null()), "admission_without_discharge"),
        _defects(
            ended.join(taken, on=["subject_id", "time"], how="anti", maintain_order="left"),
            "discharge_without_admission",
        ),
    ]
    numbered = pairs.with_columns(stay_id=pl.int_range(1, pl.len() + 1))
    return _named(numbered), defects


def _named(pairs: pl.DataFrame) -> pl.DataFrame:
    """The stays that have an end, with the care unit that the admission's code names."""
    stays = pairs.with_columns(admitted_at="time", unit=second(pl.col("code"))).drop_nulls(
        "discharged_at"
    )
    return stays.select(_NAMES).sort("stay_id")


def second(code: pl.Expr) -> pl.Expr:
    """What a code says after its first ``//``, up to the next; ``UNK`` and nothing are null."""
    part = code.str.split("//").list.get(1, null_on_oob=True)
    return pl.when(~part.is_in(["", "UNK"])).then(part)


def _with_hospital(stays: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The last admission to hospital before the stay, or a little after its begin."""
    hospital = rows.filter(kind="hospital_admission").sort("time", "code")
    admissions = hospital.select(
        "subject_id", hospital_admitted_at="time", admission_type=second(pl.col("code"))
    )
    latest = stays.with_columns(
        upto=pl.col("admitted_at") + timedelta(hours=HOSPITAL_TOLERANCE_HOURS)
    ).sort("upto")
    keys: dict[str, Any] = {
        "left_on": "upto",
        "right_on": "hospital_admitted_at",
        "by": "subject_id",
    }
    found = latest.join_asof(admissions, **keys, check_sortedness=False)
    return found.drop("upto").sort("stay_id")


def _with_people(stays: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    people = (
        rows.sort("time", "code", "name", nulls_last=True)
        .group_by("subject_id")
        .agg(
            born=pl.col("time").filter(pl.col("kind") == "birth").first(),
            sex=pl.col("name").filter(pl.col("kind") == "sex").first(),
        )
    )
    years = (pl.col("admitted_at") - pl.col("born")).dt.total_seconds() / (365.2425 * 86_400)
    told = stays.join(people, on="subject_id", how="left", maintain_order="left")
    return told.select(
        "stay_id",
        "subject_id",
        site=pl.lit(None),
        hospital_admitted_at="hospital_admitted_at",
        admitted_at="admitted_at",
        observed_from=pl.lit(None),
        discharged_at="discharged_at",
        age=pl.when(years > SHIFTED_YEARS).then(SHIFTED_AGE).otherwise(years),
        sex="sex",
        height_cm=pl.lit(None),
        weight_kg=pl.lit(None),
        unit="unit",
        admission_type="admission_type",
    ).cast(pl.Schema(STAYS))


def _defects(rows: pl.DataFrame, rule: str) -> pl.DataFrame:
    when = pl.col("time").dt.to_string("%Y-%m-%d %H:%M:%S").fill_null("no time")
    return rows.select(
        table=pl.lit("stays"),
        key=pl.format("subject {}, {}", "subject_id", when),
        column=pl.lit("code"),
        rule=pl.lit(rule),
        value=pl.col("code"),
    ).cast(pl.Schema(DEFECTS))
