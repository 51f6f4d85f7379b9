"""MIMIC-III's raw tables: what they say becomes rows, what is wrong is named."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowsheet.cohort import spill
from flowsheet.cohort.ingest import ingest
from flowsheet.cohort.schema import EPOCH, TREATMENTS, UNIQUE_KEYS, Tables
from flowsheet.cohort.sources.base import Source, StayBatch
from flowsheet.cohort.sources.mimic3 import Mimic3, Mimic3Options, inputs
from flowsheet.cohort.sources.mimic3.exclusions import Tally
from flowsheet.cohort.sources.mimic3.stays import Places, Placing, Stays, _windows
from flowsheet.config import CohortConfig, Policy, QuarantineConfig
from flowsheet.errors import CheckFailed
from flowsheet.testing.sources import SourceConformance
from tests.cohort import mimic3_folder as raw


def source(folder: Path, **options: Any) -> Mimic3:
    return Mimic3(folder, Mimic3Options(**options))


def whole(folder: Path, **options: Any) -> tuple[Tables, list[StayBatch]]:
    batches = list(source(folder, **options).batches())
    names = ("stays", "events", "treatments", "episodes")
    return Tables(
        *(pl.concat(getattr(batch, name) for batch in batches) for name in names)
    ), batches


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Tables, list[StayBatch]]:
    folder = raw.write(tmp_path_factory.mktemp("mimic"), raw.tables())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(folder / "home"))
        return whole(folder)


def values(tables: Tables, stay: int, variable: str) -> list[tuple[datetime, datetime, float]]:
    return (
        tables.events.filter(stay_id=stay, variable=variable)
        .sort("time")
        .select("time", "known_at", "value")
        .rows()
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestConformance(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return source(raw.write(folder / "tables", raw.tables()), stays_per_batch=2)

    def make_shuffled(self, folder: Path) -> Source:
        shuffled = {
            name: table.sample(fraction=1, shuffle=True, seed=3)
            for name, table in raw.tables().items()
        }
        return source(raw.write(folder / "tables", shuffled), stays_per_batch=2)

    def make_changed(self, folder: Path) -> Source:
        changed = raw.tables()
        changed["labevents"] = changed["labevents"].with_columns(
            pl.col("valuenum").str.replace("1.4", "1.5")
        )
        return source(raw.write(folder / "tables", changed), stays_per_batch=2)


@pytest.mark.realdata
class TestDemoConformance(SourceConformance):
    @pytest.fixture(autouse=True)
    def _demo(self, data_dir: Path) -> None:
        self.folder = data_dir / "mimic3-demo"

    def make_source(self, folder: Path) -> Source:
        return source(self.folder, stays_per_batch=50)


@pytest.mark.parametrize(
    ("form", "upper"), [("csv", True), ("csv.gz", False), ("parquet", True), ("parquet", False)]
)
def test_every_form_of_the_tables_says_the_same(made, tmp_path, form: str, upper: bool):
    again, batches = whole(raw.write(tmp_path / "tables", raw.tables(), form=form, upper=upper))
    for name in ("stays", "events", "treatments", "episodes"):
        assert getattr(again, name).sort(pl.all()).equals(getattr(made[0], name).sort(pl.all())), (
            name
        )
    assert batches[0].exclusions == made[1][0].exclusions


def test_stays(made):
    stays = made[0].stays
    assert stays["stay_id"].to_list() == [1001, 1002, 1003, 1004]
    assert stays["site"].to_list() == ["carevue", *["metavision"] * 3]
    assert stays["age"].round(1).to_list() == [50.0, 65.0, 65.0, 91.4]
    assert stays["hospital_admitted_at"][0] == at("2150-03-01 08:00")
    assert made[1][0].attrition["in the raw tables"] == 5
    assert made[1][0].attrition["aged 18 or over"] == 4


def test_values_are_converted_and_known_when_they_were_stored(made):
    tables = made[0]
    known = at("2150-03-01 11:20")
    assert values(tables, 1001, "hr")[0] == (at("2150-03-01 11:00"), known, 88.0)
    assert values(tables, 1001, "temp") == [(at("2150-03-01 11:00"), known, 37.0)]
    assert values(tables, 1001, "fio2") == [(at("2150-03-01 11:00"), known, 50.0)]
    assert [v for _, _, v in values(tables, 1001, "height")] == [177.8]
    assert [v for _, _, v in values(tables, 1002, "weight")] == [90.718474]
    assert [v for _, _, v in values(tables, 1001, "crp")] == [89.0, 250.0]


def test_a_chart_event_without_a_stay_is_placed_by_its_time_and_never_known_before_it_was_true(
    made,
):
    assert values(made[0], 1001, "hr")[1] == (at("2150-03-01 12:00"), at("2150-03-01 12:00"), 90.0)


def test_a_laboratory_result_is_known_after_the_declared_delay(made, tmp_path):
    assert values(made[0], 1001, "crea") == [(at("2150-03-01 09:00"), at("2150-03-01 11:00"), 1.4)]
    other, _ = whole(raw.write(tmp_path / "tables", raw.tables()), lab_delay_hours=0.5)
    assert values(other, 1001, "crea")[0][1] == at("2150-03-01 09:30")


def test_facts_between_two_stays_belong_to_the_one_that_comes(made):
    assert not values(made[0], 1002, "crea")
    assert [v for _, _, v in values(made[0], 1003, "crea")] == [2.0]


def test_what_is_left_out_is_counted_by_its_reason(made):
    left_out = made[1][0].exclusions
    assert left_out["chartevents: charted in error"] == 1
    assert left_out["chartevents: impossible: sbp"] == 1
    assert left_out["chartevents: outside the stay"] == 1
    assert left_out["chartevents: no number"] == 1
    assert left_out["chartevents: items that the catalogue does not map"] == 1
    assert left_out["labevents: items that the catalogue does not map"] == 1
    assert left_out["labevents: blood gas that is not arterial"] == 1
    assert left_out["inputevents_mv: rewritten"] == 1
    assert left_out["another item said it already"] == 2


def test_the_arterial_line_comes_before_the_cuff_and_arterial_blood_before_venous(made):
    assert [v for _, _, v in values(made[0], 1002, "sbp")] == [111.0]
    assert [v for _, _, v in values(made[0], 1001, "po2")] == [80.0]


@pytest.mark.parametrize(
    ("rule", "verbal", "total"),
    [("missing", [], []), ("as_charted", [1.0], [11.0]), ("normal", [], [15.0])],
)
def test_the_coma_score_of_an_intubated_patient_follows_the_declared_rule(
    tmp_path, rule, verbal, total
):
    tables, _ = whole(raw.write(tmp_path / "tables", raw.tables()), intubated_verbal=rule)
    assert [v for _, _, v in values(tables, 1001, "vgcs")] == verbal
    assert [v for _, _, v in values(tables, 1001, "gcs")] == total
    assert [v for _, _, v in values(tables, 1001, "egcs")] == [4.0]


def test_irrigation_is_taken_off_the_urine(made):
    assert values(made[0], 1002, "urine") == [
        (at("2160-01-01 05:00"), at("2160-01-01 05:15"), 200.0)
    ]


def test_ventilation_is_said_while_it_lasts_and_when_it_ends(made):
    said = [(time.hour, value) for time, _, value in values(made[0], 1003, "vent")]
    assert said == [(2, 1.0), (6, 1.0), (10, 1.0), (12, 0.0)]
    assert [v for _, _, v in values(made[0], 1001, "vent")] == [1.0]
    assert [v for _, _, v in values(made[0], 1002, "vent")] == [0.0]


def doses(tables: Tables, stay: int, drug: str) -> list[tuple[Any, ...]]:
    rows = tables.treatments.filter(stay_id=stay, drug=drug).sort("start")
    return rows.select("start", "end", pl.col("dose").round(3)).rows()


def test_a_carevue_rate_holds_until_the_next_or_its_stop_and_goes_by_the_charted_weight(made):
    assert doses(made[0], 1001, "norepinephrine") == [
        (at("2150-03-01 11:00"), at("2150-03-01 13:00"), 6.0),  # 5 mcg/min / 50 kg * 60
        (at("2150-03-01 13:00"), at("2150-03-01 14:00"), 12.0),
    ]
    assert doses(made[0], 1001, "crystalloid") == [
        (at("2150-03-01 15:00"), at("2150-03-01 15:00"), 250.0)
    ]


def test_a_metavision_infusion_has_a_rate_a_push_an_amount(made):
    begin = at("2160-01-01 01:00")
    assert doses(made[0], 1002, "norepinephrine") == [(begin, at("2160-01-01 03:00"), 6.0)]
    assert doses(made[0], 1002, "propofol")[0][2] == pytest.approx(
        450, abs=0.01
    )  # 83.3 mcg/kg/min, 90 kg, in mg/h
    assert doses(made[0], 1002, "magnesium_sulfate")[0][2] == 1.0  # two grams over two hours
    assert doses(made[0], 1002, "vancomycin") == [(begin, begin, None)]


def test_an_order_is_a_treatment_only_where_its_giving_is_not_charted(made):
    assert doses(made[0], 1001, "ceftriaxone") == [
        (at("2150-03-01 10:00"), at("2150-03-04 00:00"), None)
    ]
    assert not doses(made[0], 1001, "ciprofloxacin")  # into the eye
    assert doses(made[0], 1002, "prednisone") == [
        (at("2160-01-01 00:00"), at("2160-01-02 00:00"), None)
    ]
    known = made[0].treatments.filter(stay_id=1002, drug="prednisone")["known_at"][0]
    assert known == at("2160-01-02 00:00")


def test_first_stays_and_services_may_be_chosen(tmp_path):
    folder = raw.write(tmp_path / "tables", raw.tables())
    first, _ = whole(folder, first_stay_only=True)
    assert first.stays["stay_id"].to_list() == [1001, 1002, 1004]
    medical, batches = whole(folder, excluded_services=["CSURG"])
    assert medical.stays["stay_id"].to_list() == [1001, 1004]
    assert batches[0].attrition["not under CSURG"] == 2


def test_what_is_set_down_on_disk_comes_back_the_same_and_nothing_stays(
    made, tmp_path, flowsheet_home, monkeypatch
):
    monkeypatch.setattr(spill, "_ROWS_TO_PARTITION", 5)
    monkeypatch.setattr(spill, "_MEMORY_LIMIT", 1000)
    left = flowsheet_home / "spill" / "killed"
    left.mkdir(parents=True)
    left.with_suffix(".lock").touch()
    again, _ = whole(raw.write(tmp_path / "tables", raw.tables()), stays_per_batch=1)
    for name in ("stays", "events", "treatments", "episodes"):
        assert getattr(again, name).sort(pl.all()).equals(getattr(made[0], name).sort(pl.all())), (
            name
        )
    assert not list((flowsheet_home / "spill").iterdir())


def test_a_folder_without_any_stay_that_is_kept_says_so(tmp_path):
    config = CohortConfig(name="old", source="mimic3")
    folder = raw.write(tmp_path / "tables", raw.tables())
    with pytest.raises(CheckFailed, match="no stay is left"):
        ingest(source(folder, min_age=100), config, tmp_path / "extract", lambda line: None)


def test_the_manifest_tells_prevalence_and_what_was_met(tmp_path):
    config = CohortConfig(name="small", source="mimic3")
    folder = raw.write(tmp_path / "tables", raw.tables())
    manifest = ingest(source(folder), config, tmp_path / "extract", lambda line: None).manifest
    told = {(entry.by, entry.group): entry.stays for entry in manifest.prevalence}
    assert told["all", "all"] == 4
    assert (told["site", "carevue"], told["site", "metavision"], told["unit", "CCU"]) == (1, 3, 1)
    assert sum(n for (by, _), n in told.items() if by == "admission order") == 4
    assert dict(manifest.source_counts)["stays"] == 4
    assert manifest.source.options["sepsis3"]["criterion"] == "rise"


def spoilt(folder: Path, policy: Policy = Policy.quarantine) -> Any:
    config = CohortConfig(
        name="spoilt",
        source="mimic3",
        quarantine=QuarantineConfig(default=policy, max_share=0.9, rules={}),
    )
    return ingest(source(folder / "tables"), config, folder / "extract", lambda line: None)


@pytest.mark.parametrize(
    ("table", "row", "cells", "rule"),
    [
        ("chartevents", 1, {"charttime": "2150-13-01 11:00:00"}, "date"),
        ("labevents", 1, {"charttime": "yesterday"}, "date"),
        ("chartevents", 1, {"icustay_id": "9999"}, "unknown_stay"),
        ("chartevents", 1, {"valuenum": "8x8"}, "number"),
        ("chartevents", 1, {"itemid": "hr"}, "itemid"),
        ("admissions", 2, {"dischtime": "2159-01-01 00:00:00"}, "discharge_before_admission"),
        ("icustays", 1, {"outtime": "2150-02-01 00:00:00"}, "discharge_before_admission"),
        ("icustays", 2, {"icustay_id": "1001"}, "duplicate_key"),
    ],
)
def test_a_spoilt_cell_is_quarantined_with_its_row_and_value(tmp_path, table, row, cells, rule):
    tables = raw.tables()
    number = pl.int_range(1, pl.len() + 1)
    changes = [
        pl.when(number == row).then(pl.lit(cell)).otherwise(column).alias(column)
        for column, cell in cells.items()
    ]
    tables[table] = tables[table].with_columns(changes)
    raw.write(tmp_path / "tables", tables)
    extract = spoilt(tmp_path)
    aside = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert aside["value"].to_list() == list(cells.values())
    key = aside["key"][0]
    assert key.startswith(table.upper())
    assert rule == "itemid" or f"row {row} (line {row + 1})" in key
    with pytest.raises(CheckFailed, match=rule):
        spoilt(tmp_path, Policy.reject)


def test_a_table_cut_in_the_middle_of_a_row_names_the_row(tmp_path):
    folder = raw.write(tmp_path / "tables", raw.tables(), form="csv")
    file = folder / "CHARTEVENTS.csv"
    file.write_bytes(file.read_bytes()[:-30])
    aside = pl.read_parquet(spoilt(tmp_path).path / "quarantine.parquet")
    assert aside.select("key", "rule").rows() == [("CHARTEVENTS.csv row 24 (line 25)", "fields")]


def test_a_gz_that_ends_early_is_refused_and_leaves_nothing(tmp_path, flowsheet_home):
    folder = raw.write(tmp_path / "tables", raw.tables())
    file = folder / "CHARTEVENTS.csv.gz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckFailed, match="ends early") as refused:
        spoilt(tmp_path)
    assert "CHARTEVENTS.csv.gz" in str(refused.value)
    assert not (tmp_path / "extract").exists()
    assert not list((flowsheet_home / "spill").iterdir())


def test_another_delimiter_a_missing_column_a_missing_and_a_double_table_are_refused(tmp_path):
    folder = raw.write(tmp_path / "tables", raw.tables(), form="csv")
    labs = folder / "LABEVENTS.csv"
    sound = labs.read_text()
    for text, said in (
        (sound.replace(",", ";"), "semicolons"),
        (sound.replace("CHARTTIME", "TIME"), "charttime"),
    ):
        labs.write_text(text)
        with pytest.raises(CheckFailed, match=said) as refused:
            spoilt(tmp_path)
        assert "LABEVENTS" in str(refused.value)
    labs.rename(tmp_path / "away.csv")
    with pytest.raises(CheckFailed, match="tables are missing: LABEVENTS"):
        spoilt(tmp_path)
    (tmp_path / "away.csv").rename(folder / "labevents.csv.gz")
    (folder / "labevents.parquet").touch()
    with pytest.raises(CheckFailed, match="twice"):
        spoilt(tmp_path)


def test_a_file_that_is_no_gzip_is_refused(tmp_path):
    folder = raw.write(tmp_path / "tables", raw.tables())
    (folder / "LABEVENTS.csv.gz").write_bytes(b"no gzip at all")
    with pytest.raises(CheckFailed, match="cannot be read"):
        spoilt(tmp_path)


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    file = tmp_path / "tables"
    file.touch()
    with pytest.raises(CheckFailed, match="a folder of MIMIC-III's tables"):
        spoilt(tmp_path)


WINDOWS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=6
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stays=WINDOWS,
    facts=st.lists(st.tuples(st.integers(1, 4), st.integers(-30, 130)), min_size=1, max_size=12),
)
def test_a_fact_is_placed_in_the_one_stay_whose_window_it_meets(stays, facts):
    """Against a plain search through all windows."""
    hour = {h: datetime(2150, 1, 10) + timedelta(hours=h) for h in range(-60, 200)}
    rows = [
        (subject, 1000 + i, hour[begin], hour[begin + length])
        for i, (subject, begin, length) in enumerate(stays)
    ]
    frame = pl.DataFrame(
        rows, schema=["subject_id", "icustay_id", "intime", "outtime"], orient="row"
    )
    windows = _windows(frame, Mimic3Options(before_hours=24, after_hours=2))
    assert (
        (windows["start"].shift(-1) > windows["end"])
        .filter(windows["subject_id"] == windows["subject_id"].shift(-1))
        .all()
    )
    ids = np.sort(frame["icustay_id"].to_numpy())
    placing = Placing(Stays(frame.select(stay_id="icustay_id").sort("stay_id"), ids, {}, windows))
    asked = pl.DataFrame(
        [(s, hour[t]) for s, t in facts], schema=["subject_id", "time"], orient="row"
    )
    placed = placing.place(asked.with_row_index("n"), "labevents", "time", Tally())
    expected = {
        n: stay
        for n, (subject, time) in enumerate(asked.rows())
        for of, stay, start, end in windows.rows()
        if of == subject and start <= time <= end
    }
    assert (
        dict(placed.select("n", pl.Series(ids)[placed["stay"]].alias("stay_id")).rows()) == expected
    )


DEMO_VALUES = [  # read off the raw CSVs by eye
    (206504, "hr", "2164-10-23 22:40", "2164-10-23 22:50", 104.0),
    (206504, "o2sat", "2164-10-24 03:00", "2164-10-24 03:00", 98.0),  # stored at 02:51
    (206504, "temp", "2164-10-23 22:40", "2164-10-23 22:50", 37.5556),  # 99.6 Fahrenheit
    (206504, "gcs", "2164-10-23 23:00", "2164-10-23 23:00", 15.0),
    (
        206504,
        "lact",
        "2164-10-23 17:33",
        "2164-10-23 19:33",
        4.4,
    ),  # before the stay; of the laboratory
    (206504, "crea", "2164-10-24 03:00", "2164-10-24 05:00", 3.5),
    (206504, "urine", "2164-10-24 00:00", "2164-10-24 04:58", 100.0),
    (206504, "urine", "2164-10-25 03:00", "2164-10-25 03:22", 10.0),
]


@pytest.fixture(scope="module")
def demo(data_dir, tmp_path_factory) -> tuple[Tables, list[StayBatch]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return whole(data_dir / "mimic3-demo")


@pytest.mark.realdata
def test_the_demo_has_136_stays_before_exclusions(demo):
    tables, batches = demo
    assert batches[0].attrition["in the raw tables"] == 136
    assert tables.stays.height == list(batches[0].attrition.values())[-1] == 132
    assert batches[0].exclusions["chartevents: charted in error"] > 100
    assert batches[0].source_counts["stays with suspected infection"] > 0


@pytest.mark.realdata
@pytest.mark.parametrize(("stay", "variable", "time", "known_at", "value"), DEMO_VALUES)
def test_values_of_the_demo_are_those_of_the_raw_tables(
    demo, stay, variable, time, known_at, value
):
    found = [row for row in values(demo[0], stay, variable) if row[0] == at(time)]
    assert found == [(at(time), at(known_at), pytest.approx(value, abs=1e-4))]


def test_files_of_other_programs_are_read(made, tmp_path):
    """A byte order mark, quoted headers, line ends of another system, ids with a decimal point."""
    tables = raw.tables()
    ids = ("subject_id", "hadm_id", "icustay_id")
    for name, table in tables.items():
        tables[name] = table.with_columns(
            pl.col(column) + ".0" for column in ids if column in table.columns
        )
    folder = raw.write(tmp_path / "tables", tables, form="csv")
    for file in folder.iterdir():
        header, *lines = file.read_text().splitlines()
        quoted = ",".join(f'"{name}"' for name in header.split(","))
        file.write_bytes(("\ufeff" + "\r\n".join([quoted, *lines]) + "\r\n").encode())
    again, _ = whole(folder)
    assert again.events.equals(made[0].events)
    assert again.treatments.sort(pl.all()).equals(made[0].treatments.sort(pl.all()))


def test_tables_without_rows_are_no_fault(tmp_path):
    tables = raw.tables()
    for name in (
        "prescriptions",
        "microbiologyevents",
        "inputevents_cv",
        "inputevents_mv",
        "procedureevents_mv",
    ):
        tables[name] = tables[name].clear()
    again, batches = whole(raw.write(tmp_path / "tables", tables, form="csv"))
    assert again.stays.height == 4
    assert again.treatments.is_empty()
    assert batches[0].defects.is_empty()


NUMBERS = st.one_of(
    st.integers(-5, 40), st.integers(9_999_990, 10_000_010), st.integers(-(2**63), 2**63 - 1)
)


@given(ids=st.sets(NUMBERS, max_size=12), asked=st.lists(NUMBERS, max_size=30))
@example(ids={9_999_999, 10_000_000}, asked=[])
def test_ids_small_and_large_are_found_where_they_stand(ids, asked):
    ordered = sorted(ids)
    places = Places(np.array(ordered, dtype=np.int64)).of(
        np.array([*asked, *ordered], dtype=np.int64)
    )
    assert places.tolist() == [ordered.index(n) if n in ids else -1 for n in [*asked, *ordered]]


GIVEN = st.fixed_dictionaries(
    {
        "stay_id": st.sampled_from([3, 200_001, 2**62]),
        "drug": st.sampled_from(["norepinephrine", "vancomycin"]),
        "start": st.integers(0, 2).map(lambda hours: EPOCH + timedelta(hours=hours)),
        "end": st.integers(2, 3).map(lambda hours: EPOCH + timedelta(hours=hours)),
        "known_at": st.just(EPOCH),
        "dose": st.sampled_from([None, 0.5, 1.0]),
        "unit": st.sampled_from([None, "mg/h"]),
    }
)


@settings(deadline=None)
@given(rows=st.lists(GIVEN, max_size=12))
def test_treatments_stand_in_the_contracts_order_and_once(rows):
    frame = pl.DataFrame(rows, TREATMENTS)
    found = inputs.once(frame, pl.Series([3, 200_001, 2**62]))
    assert found.equals(frame.unique().sort(UNIQUE_KEYS["treatments"]))
