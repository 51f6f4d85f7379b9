"""Inputs and orders become treatments: their doses, and the order of the rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.cohort.engine.treatments import sort_and_dedupe
from flowsheet.cohort.schema import EPOCH, TREATMENTS, UNIQUE_KEYS, Tables
from tests.cohort.mimic3_folder import (
    SourceResult,
    add_rows,
    raw_tables,
    read_folder,
    write_tables,
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def doses_of(tables: Tables, stay_id: int, drug: str) -> list[tuple[Any, ...]]:
    """(start, end, dose) of a drug in a stay, by start."""
    rows = tables.treatments.filter(stay_id=stay_id, drug=drug).sort("start")
    return rows.select("start", "end", pl.col("dose").round(3)).rows()


def test_a_carevue_rate_lasts_until_the_next_and_is_divided_by_the_charted_weight(
    result: SourceResult,
):
    assert doses_of(result.tables, 1001, "norepinephrine") == [
        (at("2150-03-01 11:00"), at("2150-03-01 13:00"), 6.0),  # 5 mcg/min / 50 kg * 60
        (at("2150-03-01 13:00"), at("2150-03-01 14:00"), 12.0),
    ]
    fluid_time = at("2150-03-01 15:00")
    assert doses_of(result.tables, 1001, "crystalloid") == [(fluid_time, fluid_time, 250.0)]


def test_two_items_of_one_drug_are_one_infusion(tmp_path: Path):
    tables = raw_tables()
    row = {"subject_id": 11, "hadm_id": 111, "icustay_id": 1001, "rateuom": "mcgkgmin"}
    times = {"charttime": "2150-03-01 12:30:00", "storetime": "2150-03-01 12:30:00"}
    add_rows(tables, "inputevents_cv", {**row, **times, "itemid": 30120, "rate": 0.1})
    rows = read_folder(write_tables(tmp_path, tables))
    starts = [(start, end) for start, end, _ in doses_of(rows.tables, 1001, "norepinephrine")]
    changes = [at(f"2150-03-01 {clock}") for clock in ("11:00", "12:30", "13:00", "14:00")]
    assert starts == list(pairwise(changes))


def test_a_metavision_infusion_has_a_rate_and_a_push_an_amount(result: SourceResult):
    tables = result.tables
    start = at("2160-01-01 01:00")
    assert doses_of(tables, 1002, "norepinephrine") == [(start, at("2160-01-01 03:00"), 6.0)]
    # 83.3 mcg/kg/min for 90 kg, in mg/h
    assert doses_of(tables, 1002, "propofol")[0][2] == pytest.approx(450, abs=0.01)
    assert doses_of(tables, 1002, "magnesium_sulfate")[0][2] == 1.0  # two grams over two hours
    assert doses_of(tables, 1002, "vancomycin") == [(start, start, None)]


def test_an_order_is_a_treatment_only_where_the_administration_is_not_charted(
    result: SourceResult,
):
    tables = result.tables
    assert doses_of(tables, 1001, "ceftriaxone") == [
        (at("2150-03-01 10:00"), at("2150-03-04 00:00"), None)
    ]
    assert not doses_of(tables, 1001, "ciprofloxacin")  # into the eye
    assert doses_of(tables, 1002, "prednisone") == [
        (at("2160-01-01 00:00"), at("2160-01-02 00:00"), None)
    ]
    prednisone = tables.treatments.filter(stay_id=1002, drug="prednisone")
    assert prednisone["known_at"][0] == at("2160-01-02 00:00")


STAY_IDS = [3, 200_001, 2**62]
ROWS = st.fixed_dictionaries(
    {
        "stay_id": st.sampled_from(STAY_IDS),
        "drug": st.sampled_from(["norepinephrine", "vancomycin"]),
        "start": st.integers(0, 2).map(lambda hours: EPOCH + timedelta(hours=hours)),
        "end": st.integers(2, 3).map(lambda hours: EPOCH + timedelta(hours=hours)),
        "known_at": st.just(EPOCH),
        "dose": st.sampled_from([None, 0.5, 1.0]),
        "unit": st.sampled_from([None, "mg/h"]),
    }
)


@settings(deadline=None)
@given(rows=st.lists(ROWS, max_size=12))
def test_treatments_are_unique_and_in_the_contracts_order(rows: list[dict[str, Any]]):
    frame = pl.DataFrame(rows, TREATMENTS)
    treatments = sort_and_dedupe(frame, pl.Series(STAY_IDS))
    assert treatments.equals(frame.unique().sort(UNIQUE_KEYS["treatments"]))
