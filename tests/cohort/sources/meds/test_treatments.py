"""Treatments from single doses and from pairs of a start and an end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.cohort.sources.meds.conftest import (
    STAY_CODES,
    at,
    make_row,
    make_rows,
    open_source,
    run_ingest,
    write_data_set,
    write_mapping,
)


def test_infusions_have_the_rate_in_the_catalogue_s_unit(tmp_path: Path):
    tables = run_ingest(write_data_set(tmp_path / "raw", make_rows()), tmp_path / "out").tables()
    treatment = tables.treatments.filter(stay_id=499).row(0, named=True)
    assert (treatment["drug"], treatment["unit"]) == ("norepinephrine", "mcg/kg")
    assert treatment["dose"] == pytest.approx(6.0)
    assert treatment["start"] == at("2150-03-01T10:00")
    assert treatment["end"] == at("2150-03-01T12:00")


DOSES = {
    "only an amount": ("vancomycin", (None, None), (2.0, "grams"), (0, 2000.0)),
    "rate of another dimension": ("norepinephrine", (5.0, "mg/hour"), (3.0, "mg"), (2, None)),
    "unknown unit of the rate": ("vancomycin", (50.0, "drops/min"), (3.0, "mg"), (2, 1.5)),
    "neither": ("vancomycin", (None, None), (None, None), (0, None)),
}


@pytest.mark.parametrize("case", DOSES)
def test_the_dose_is_the_rate_or_the_amount_per_hour(tmp_path: Path, case: str):
    drug, (rate, rate_unit), (amount, amount_unit), (hours, dose) = DOSES[case]
    lines = [f"ON,drug_start,{drug},,,", f"OFF,drug_end,{drug},,,", "LAB//*,variable,hr,,,"]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    rows = [
        *make_rows(),
        make_row(1, "2150-03-01T11:00:00", "ON", rate, unit=rate_unit),
        make_row(1, "2150-03-01T13:00:00", "OFF", amount, unit=amount_unit),
    ]
    root = write_data_set(tmp_path / "raw", rows)
    tables = run_ingest(root, tmp_path / "out", mapping=str(file)).tables()
    (treatment,) = tables.treatments.to_dicts()
    assert treatment["end"] - treatment["start"] == timedelta(hours=hours)
    assert treatment["dose"] == dose


def test_single_doses_and_starts_without_an_end_are_kept_and_unpaired_ends_counted(tmp_path: Path):
    lines = [
        "GIVE//*,drug,vancomycin,g,,",
        "ON,drug_start,insulin,U/hour,,",
        "OFF,drug_end,insulin,U,,",
        "LAB//220045//*,variable,hr,,,",
    ]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    more = [
        make_row(1, "2150-03-01T11:00:00", "GIVE//vancomycin", 1.0),
        make_row(1, "2150-03-01T12:00:00", "ON", 4.0),
        make_row(2, "2150-03-02T12:00:00", "OFF", 4.0),
        make_row(3, "2150-03-03T13:00:00", "ON", 4.0),
        make_row(3, "2150-03-03T12:00:00", "OFF", 4.0),
        make_row(4, None, "ON", 4.0),
    ]
    root = write_data_set(tmp_path / "raw", make_rows() + more)
    extract = run_ingest(root, tmp_path / "out", mapping=str(file))
    treatments = extract.tables().treatments.select("stay_id", "drug", "dose")
    assert treatments.rows() == [(499, "vancomycin", 1000.0), (499, "insulin", 4.0)]
    exclusions = {k: n for k, n in extract.manifest.exclusions if "the mapping" not in k}
    assert exclusions == {
        "drug ends without a start": 1,
        "drug starts without an end (rows kept)": 1,
        "drugs that end before they start": 1,
        "measurements and drugs without a time": 1,
    }


def read_infusions(
    folder: Path, rows: list[tuple[str, str, float]]
) -> list[tuple[int, int, float]]:
    """(first hour, last hour, rate) of the infusions of subject 1, of rows (hour, code, number)."""
    lines = ["ON,drug_start,insulin,U/hour,,", "OFF,drug_end,insulin,U,,", "LAB//*,variable,hr,,,"]
    file = write_mapping(folder, [*STAY_CODES, *lines])
    more = [make_row(1, f"2150-03-01T{hour}:00:00", code, value) for hour, code, value in rows]
    root = write_data_set(folder / "raw", [*make_rows(), *more])
    batches = list(open_source(root, mapping=str(file)).batches())
    treatments = pl.concat(batch.treatments for batch in batches).sort("start")
    return treatments.select(pl.col("start", "end").dt.hour(), "dose").rows()


SEQUENCE = [("10", "ON", 1.0), ("12", "OFF", 2.0), ("12", "ON", 4.0), ("13", "OFF", 4.0)]
OVERLAP = [("10", "ON", 1.0), ("11", "ON", 4.0), ("12", "OFF", 2.0), ("13", "OFF", 8.0)]


def test_ends_are_paired_in_their_order(tmp_path: Path):
    assert read_infusions(tmp_path, SEQUENCE) == [(10, 12, 1.0), (12, 13, 4.0)]
    (tmp_path / "b").mkdir()
    assert read_infusions(tmp_path / "b", OVERLAP) == [(10, 12, 1.0), (11, 13, 4.0)]


def test_a_start_without_an_end_lasts_a_day_at_most(tmp_path: Path):
    """The next start of the drug may be in another stay, months later."""
    later = make_row(1, "2150-08-01T12:00:00", "ON", 3.0)
    lines = ["ON,drug_start,insulin,U/hour,,", "LAB//*,variable,hr,,,"]
    file = write_mapping(tmp_path, [*STAY_CODES, *lines])
    first = make_row(1, "2150-03-01T12:00:00", "ON", 4.0)
    root = write_data_set(tmp_path / "raw", [*make_rows(), first, later])
    extract = run_ingest(root, tmp_path / "out", mapping=str(file))
    (treatment,) = extract.tables().treatments.to_dicts()
    assert treatment["dose"] == 4.0
    assert treatment["end"] - treatment["start"] == timedelta(hours=24)


@pytest.mark.parametrize("missing", ["start", "end"])
def test_a_missing_start_or_end_does_not_shift_the_others(tmp_path: Path, missing: str):
    if missing == "start":
        rows, first = [("09", "OFF", 2.0), *SEQUENCE], []
    else:
        rows, first = [("09", "ON", 2.0), *SEQUENCE], [(9, 10, 2.0)]
    assert read_infusions(tmp_path, rows) == [*first, (10, 12, 1.0), (12, 13, 4.0)]
