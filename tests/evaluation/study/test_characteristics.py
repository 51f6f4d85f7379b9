"""The table of characteristics: its counts, what is unknown, and what is not shown."""

from datetime import timedelta

import polars as pl
import pytest

from flowsheet.cohort.extract import Provenance, SourceEntry
from flowsheet.cohort.schema import EPOCH, Tables, empty_table, to_contract
from flowsheet.cohort.writer import write_extract
from flowsheet.evaluation.study.characteristics import tabulate_characteristics

N = 40
HOUR = timedelta(hours=1)


def make_stays():
    ids = list(range(N))
    return to_contract(
        "stays",
        pl.DataFrame(
            {
                "stay_id": ids,
                "subject_id": [i // 2 for i in ids],
                "admitted_at": [EPOCH] * N,
                "discharged_at": [EPOCH + 48 * HOUR] * N,
                "age": [50.0 + i % 10 for i in ids],
                "sex": [None if i < 6 else "F" if i % 2 else "M" for i in ids],
                "unit": ["MICU" if i < 37 else "SICU" for i in ids],
                "hospital_death": [i < 10 for i in ids],
            }
        ),
    )


def make_events():
    rows = [(i, EPOCH + 2 * HOUR, "vent", 1.0) for i in range(8)]
    rows += [(i, EPOCH + 30 * HOUR, "vent", 1.0) for i in range(20, 30)]
    rows += [(i, EPOCH + 2 * HOUR, "crea", 5.5) for i in range(20)]
    schema = {"stay_id": pl.Int64, "time": pl.Datetime("us"), "variable": pl.String}
    events = pl.DataFrame(rows, schema=schema | {"value": pl.Float64}, orient="row")
    return to_contract("events", events.with_columns(known_at=pl.col("time")))


def make_treatments():
    doses = pl.DataFrame(
        {
            "stay_id": list(range(12)),
            "drug": ["norepinephrine"] * 12,
            "start": [EPOCH + 1 * HOUR] * 6 + [EPOCH + 25 * HOUR] * 6,
            "end": [EPOCH + 3 * HOUR] * 6 + [EPOCH + 26 * HOUR] * 6,
            "known_at": [EPOCH + 1 * HOUR] * 12,
            "dose": [6.0] * 12,
            "unit": ["mcg/kg"] * 12,
        }
    )
    return to_contract("treatments", doses)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    tables = Tables(make_stays(), make_events(), make_treatments(), empty_table("episodes"))
    provenance = Provenance(
        source=SourceEntry(name="x"),
        variables=("vent", "crea", "map", "plt", "bili", "gcs"),
        drugs=("norepinephrine",),
    )
    extract = write_extract(tables, tmp_path_factory.mktemp("study") / "extract", provenance)
    ids = pl.Series("stay_id", range(N))
    groups = pl.DataFrame({"stay_id": ids, "Training": ids < 30, "Test": ids >= 30})
    return tabulate_characteristics(extract, groups)


def cells(table, label):
    (row,) = [row for row in table.rows if row.label == label]
    return dict(zip(table.columns, row.cells, strict=True))


def test_stays_and_patients_are_counted(table):
    assert cells(table, "Stays") == {"All": "40", "Training": "30", "Test": "10"}
    assert cells(table, "Patients") == {"All": "20", "Training": "15", "Test": "5"}


def test_shares_are_of_those_whose_value_is_known(table):
    assert cells(table, "Female")["All"] == "17 (50.0%)"
    unknown = [row for row in table.rows if row.label.strip() == "not known"]
    assert unknown[0].cells[0] == "6 (15.0%)"


def test_counts_below_5_and_their_complements_are_not_shown(table):
    assert cells(table, "Care unit: other")["All"] == "<5"
    assert cells(table, "Care unit: MICU")["All"] == ">35"


def test_only_the_first_day_counts(table):
    assert cells(table, "Ventilated, first day")["All"] == "8 (20.0%)"
    assert cells(table, "Vasopressor, first day")["All"] == "6 (15.0%)"


def test_the_sofa_score_is_the_highest_of_the_first_day(table):
    sofa = cells(table, "Highest SOFA score, first day: median [quartiles]")
    assert sofa["All"].startswith("4 [4, ")
    assert sofa["Test"] == ""


def test_columns_that_the_source_does_not_record_have_no_row(table):
    assert not any("Ethnicity" in row.label for row in table.rows)


def test_deaths_and_lengths_of_stay(table):
    assert cells(table, "Died in hospital")["Training"] == "10 (33.3%)"
    assert cells(table, "Died in hospital")["Test"] == "0 (0.0%)"
    assert cells(table, "Length of stay, days: median [quartiles]")["All"] == "2.0 [2.0, 2.0]"
