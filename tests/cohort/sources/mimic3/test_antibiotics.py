"""Antibiotics count for the whole hospital admission, in every stay and batch."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.cohort.mimic3_folder import RawTables, raw_tables, read_folder, write_tables

VANCOMYCIN = "225798"
CREATININE = "50912"


def sepsis_in_the_second_stay() -> RawTables:
    """Vancomycin once in each of two stays, a culture and a failing kidney in the second one."""
    tables = raw_tables()
    others = pl.col("hadm_id") != "112"
    for name in ("prescriptions", "microbiologyevents", "inputevents_mv"):
        tables[name] = tables[name].filter(others)
    doses = raw_tables()["inputevents_mv"].filter(pl.col("itemid") == VANCOMYCIN).head(1)
    tables["inputevents_mv"] = pl.concat(
        [
            tables["inputevents_mv"],
            *(
                doses.with_columns(
                    icustay_id=pl.lit(stay),
                    starttime=pl.lit(time),
                    endtime=pl.lit(time),
                    storetime=pl.lit(time),
                )
                for stay, time in (
                    ("1002", "2160-01-02 10:00:00"),
                    ("1003", "2160-01-03 10:00:00"),
                )
            ),
        ]
    )
    culture = raw_tables()["microbiologyevents"].head(1)
    tables["microbiologyevents"] = pl.concat(
        [
            tables["microbiologyevents"],
            culture.with_columns(
                subject_id=pl.lit("12"),
                hadm_id=pl.lit("112"),
                chartdate=pl.lit("2160-01-03 00:00:00"),
                charttime=pl.lit("2160-01-03 09:00:00"),
            ),
        ]
    )
    labs = raw_tables()["labevents"].filter(pl.col("itemid") == CREATININE).head(1)
    tables["labevents"] = pl.concat(
        [
            tables["labevents"].filter(
                (pl.col("subject_id") != "12") | (pl.col("itemid") != CREATININE)
            ),
            *(
                labs.with_columns(
                    subject_id=pl.lit("12"),
                    hadm_id=pl.lit("112"),
                    charttime=pl.lit(time),
                    value=pl.lit(value),
                    valuenum=pl.lit(value),
                )
                for time, value in (
                    ("2160-01-03 01:00:00", "1.0"),
                    ("2160-01-03 08:00:00", "3.0"),
                )
            ),
        ]
    )
    return tables


@pytest.mark.parametrize("excluded_first_stay", [False, True])
def test_the_label_does_not_depend_on_the_size_of_a_batch(
    tmp_path: Path, excluded_first_stay: bool
):
    folder = write_tables(tmp_path / "tables", sepsis_in_the_second_stay())
    # With 40 hours or more, the first stay is too short to be selected.
    min_hours = 40 if excluded_first_stay else 4
    results = [read_folder(folder, stays_per_batch=n, min_hours=min_hours) for n in (1, 1000)]
    for result in results:
        assert result.tables.episodes.filter(stay_id=1003).height == 1
    assert results[0].tables.episodes.equals(results[1].tables.episodes)
