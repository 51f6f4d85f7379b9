"""MEDS data sets: stays, facts and labels out of codes, and what becomes of what cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flowsheet.cohort import catalogue, spill
from flowsheet.cohort.extract import Extract, check_extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources import meds as module
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.meds import Meds
from flowsheet.cohort.sources.meds.codes import Mapping
from flowsheet.compose import compose_cohort
from flowsheet.config import CohortConfig
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing import meds
from flowsheet.testing.sources import SourceConformance

Row = dict[str, Any]


def row(subject: int, time: str | None, code: str, value: float | None = None, **more: Any) -> Row:
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": value, **more}


def person(subject: int, day: int, stay: int | None = None) -> list[Row]:
    """Born, admitted, two days in intensive care, with heart rates, a lactate and a drug that runs."""
    at = [f"2150-03-{day + i:02d}T08:00:00" for i in range(3)]
    return [
        row(subject, None, "GENDER//F" if subject % 2 else "GENDER//M"),
        row(subject, "2090-03-01T00:00:00", "MEDS_BIRTH"),
        row(subject, f"2150-03-{day:02d}T06:00:00", "HOSPITAL_ADMISSION//URGENT//ROOM"),
        row(subject, at[0], "ICU_ADMISSION//MICU", icustay_id=stay),
        row(
            subject, at[0].replace("08", "09"), "LAB//220045//bpm", 80.0 + subject, icustay_id=stay
        ),
        row(subject, at[1], "LAB//220045//bpm", 98.6, icustay_id=stay),
        row(subject, at[1], "LAB//RESULT//50813//mmol/L", 2.1),
        row(
            subject,
            at[0].replace("08", "10"),
            "INFUSION_START//221906",
            0.1,
            order_id=7,
            unit="mcg/kg/min",
        ),
        row(subject, at[0].replace("08", "12"), "INFUSION_END//221906", 3.0, order_id=7, unit="mg"),
        row(subject, at[2], "ICU_DISCHARGE//MICU", icustay_id=stay),
    ]


def sound(*, ids: bool = True) -> list[Row]:
    return [r for i in range(1, 5) for r in person(i, day=i, stay=500 - i if ids else None)]


def data(folder: Path, rows: list[Row], shards: int = 2, **more: Any) -> Path:
    frame = meds.make_shard(rows)
    parts = {f"split/{i}": frame.filter(pl.col("subject_id") % shards == i) for i in range(shards)}
    return meds.write_data_set(folder, parts, **more)


def source(root: Path, **options: Any) -> Meds:
    return Meds(root, Meds.Options(**options))


def run(root: Path, target: Path, max_share: float = 1.0, **options: Any) -> Extract:
    quarantine = {"max_share": max_share}
    values = {
        "name": "test",
        "source": "meds",
        "path": str(root),
        "options": options,
        "quarantine": quarantine,
    }
    config = CohortConfig.model_validate(values)
    return ingest(make_source(config), config, target, lambda line: None)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestMeds(SourceConformance):
    ids = True

    def make_source(self, folder: Path) -> Source:
        return source(data(folder, sound(ids=self.ids)))

    def make_shuffled(self, folder: Path) -> Source:
        root = data(folder, sound(ids=self.ids)[::-1], shards=3)
        for file in (root / "data").glob("**/*.parquet"):
            pl.read_parquet(file).sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
        return source(root)

    def make_changed(self, folder: Path) -> Source:
        rows = sound(ids=self.ids)
        rows[4]["numeric_value"] = 99.0
        return source(data(folder, rows))


class TestNumberedStays(TestMeds):
    ids = False


class TestSmallBatches(TestMeds):
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module, "STAYS_A_BATCH", 1)
        monkeypatch.setattr(module, "SUBJECTS_A_READ", 1)


def test_a_stay_and_its_person(tmp_path: Path):
    extract = run(data(tmp_path / "raw", sound(), licence="ODbL"), tmp_path / "out")
    stay = extract.tables().stays.filter(subject_id=1).row(0, named=True)
    assert stay["stay_id"] == 499
    assert (stay["admitted_at"], stay["discharged_at"]) == (
        moment("2150-03-01T08:00"),
        moment("2150-03-03T08:00"),
    )
    assert stay["hospital_admitted_at"] == moment("2150-03-01T06:00")
    assert (stay["sex"], stay["unit"], stay["admission_type"]) == ("F", "MICU", "URGENT")
    assert stay["age"] == pytest.approx(60.0, abs=0.01)
    assert (extract.manifest.source.licence, extract.manifest.exclusions) == ("ODbL", ())
    assert dict(extract.manifest.attrition)["intensive care stays"] == 4


def test_values_are_the_decimals_that_were_stored_and_drugs_run_in_the_catalogue_s_unit(
    tmp_path: Path,
):
    tables = run(data(tmp_path / "raw", sound()), tmp_path / "out").tables()
    assert tables.events.filter(stay_id=499, variable="hr")["value"].to_list() == [81.0, 98.6]
    given = tables.treatments.filter(stay_id=499).row(0, named=True)
    assert (given["start"], given["end"]) == (
        moment("2150-03-01T10:00"),
        moment("2150-03-01T12:00"),
    )
    assert (given["drug"], given["dose"], given["unit"]) == (
        "norepinephrine",
        pytest.approx(6.0),
        "mcg/kg",
    )


def test_without_ids_a_stay_ends_with_the_next_discharge(tmp_path: Path):
    again = [
        row(1, "2150-03-09T08:00:00", "ICU_ADMISSION//SICU//x"),
        row(1, "2150-03-10T08:00:00", "LAB//220045//bpm", 70.0),
        row(1, "2150-03-11T08:00:00", "ICU_DISCHARGE//UNK"),
    ]
    tables = run(data(tmp_path / "raw", sound(ids=False) + again), tmp_path / "out").tables()
    assert tables.stays.select("stay_id", "subject_id", "unit").rows()[:3] == [
        (1, 1, "MICU"),
        (2, 1, "SICU"),
        (3, 2, "MICU"),
    ]
    assert tables.events.filter(value=70.0)["stay_id"].to_list() == [2]


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("2150-02-28T09:00:00", True),  # within a day before
        ("2150-02-28T07:00:00", False),
        ("2150-03-01T08:00:00", True),
        ("2150-03-03T08:00:00", True),
        ("2150-03-03T10:00:00", True),  # within two hours after
        ("2150-03-03T10:00:01", False),
    ],
)
def test_facts_near_a_stay_are_its_own_and_others_are_counted(
    tmp_path: Path, time: str, kept: bool
):
    rows = [*sound(), row(1, time, "LAB//220045//bpm", 71.0)]
    extract = run(data(tmp_path / "raw", rows), tmp_path / "out")
    assert extract.tables().events.filter(value=71.0)["stay_id"].to_list() == [499] * kept
    assert dict(extract.manifest.exclusions) == (
        {} if kept else {"a measurement or drug outside every stay": 1}
    )


def test_a_column_of_storage_times_and_a_delay_say_when_a_fact_was_known(tmp_path: Path):
    rows = sound()
    rows[4]["storetime"] = "2150-03-01T09:40:00"
    rows[5]["storetime"] = "2150-03-01T09:40:00"  # before it was true
    root = data(tmp_path / "raw", rows)
    events = (
        run(root, tmp_path / "a", known_at="storetime")
        .tables()
        .events.filter(stay_id=499, variable="hr")
    )
    assert events["known_at"].to_list() == [moment("2150-03-01T09:40"), moment("2150-03-02T08:00")]
    late = mapping(tmp_path, [*STAYS, "LAB//220045//*,variable,hr,,none,1.5"])
    events = run(root, tmp_path / "b", mapping=str(late)).tables().events.filter(stay_id=499)
    assert set(events["known_at"] - events["time"]) == {timedelta(hours=1.5)}


STAYS = ["ICU_ADMISSION//*,icu_admission,,,,", "ICU_DISCHARGE//*,icu_discharge,,,,"]


def mapping(
    folder: Path, lines: list[str], header: str = "code,kind,name,unit,convert,delay_hours"
) -> Path:
    file = folder / "codes.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


CONVERTED = {
    "fahrenheit": ("temp", 98.6, 37.0),
    "inches": ("height", 70.0, 177.8),
    "pounds": ("weight", 100.0, 45.359237),
    "ounces": ("weight", 1000.0, 28.349523),
    "fraction_or_percent": ("fio2", 0.4, 40.0),
    "negate": ("be", 3.0, -3.0),
    "running": ("vent", None, 1.0),
    "88.4": ("crea", 0.01, 0.884),
    "none": ("hr", 61.0, 61.0),
}


@pytest.mark.parametrize("convert", CONVERTED)
def test_units_are_converted_as_the_mapping_says(tmp_path: Path, convert: str):
    name, raw, wanted = CONVERTED[convert]
    file = mapping(tmp_path, [*STAYS, f"MINE,variable,{name},,{convert},"])
    rows = [*sound(), row(1, "2150-03-01T11:00:00", "MINE", raw)]
    source_of = source(data(tmp_path / "raw", rows), mapping=str(file))
    values = pl.concat(batch.events for batch in source_of.batches())["value"]
    assert values.to_list() == [pytest.approx(wanted, rel=1e-6)]


def test_the_longest_code_of_the_mapping_speaks_and_an_equal_one_before_all():
    found = Mapping(
        pl.DataFrame({"code": ["A//*", "A//B//*", "A//B//C", "Z"]}).with_row_index("rule")
    ).match(pl.Series(["A", "A//X", "A//B", "A//B//D", "A//B//C", "AB", "Z//1", "Z"]))
    assert dict(found.rows()) == {"A": 0, "A//X": 0, "A//B": 1, "A//B//D": 1, "A//B//C": 2, "Z": 3}


def test_of_several_values_at_one_time_the_first_known_counts_then_the_mapping_s_first_and_outputs_add_up(
    tmp_path: Path,
):
    at = "2150-03-01T11:00:00"
    more = [
        row(1, at, "LAB//220179//mmHg", 90.0),  # by cuff
        row(1, at, "LAB//220050//mmHg", 104.0),  # by arterial line: first in the mapping
        row(1, at, "LAB//220050//mmHg", 102.0),
        row(1, at, "LAB//220050//mmHg", 1020.0),
        row(1, at, "SUBJECT_FLUID_OUTPUT//226559//mL", 50.0),
        row(1, at, "SUBJECT_FLUID_OUTPUT//226560//mL", 20.0),
    ]
    root = data(tmp_path / "raw", sound() + more)
    extract = run(root, tmp_path / "out")
    found = pl.col("variable").is_in(["sbp", "urine"])
    events = extract.tables().events.filter(found)
    assert events.select("variable", "value").rows() == [("sbp", 102.0), ("urine", 70.0)]
    assert dict(extract.manifest.exclusions) == {
        "an impossible value": 1,
        "another value of the same code at the same time": 1,
        "another code for the same variable at the same time": 1,
    }
    for i, told in enumerate(more):
        told["storetime"] = f"2150-03-01T1{2 + (i != 0)}:00:00"
    first = run(data(tmp_path / "stored", sound() + more), tmp_path / "b", known_at="storetime")
    assert first.tables().events.filter(found)["value"].to_list() == [90.0, 70.0]


DRUGS = {
    "amount alone": ((None, None, 2.0, "grams"), (0, 2000.0)),
    "rate of another dimension": ((5.0, "mg/hour", 3.0, "mg"), (2, None)),
    "rate untold, amount spread": ((50.0, "drops/min", 3.0, "mg"), (2, 1.5)),
    "nothing": ((None, None, None, None), (0, None)),
}


@pytest.mark.parametrize("case", DRUGS)
def test_doses(tmp_path: Path, case: str):
    (rate, rate_unit, amount, amount_unit), (hours, dose) = DRUGS[case]
    drug = "norepinephrine" if case == "rate of another dimension" else "vancomycin"
    file = mapping(
        tmp_path,
        [*STAYS, f"ON,drug_start,{drug},,,", f"OFF,drug_end,{drug},,,", "LAB//*,variable,hr,,,"],
    )
    rows = [*sound(), row(1, "2150-03-01T11:00:00", "ON", rate, unit=rate_unit)]
    rows.append(row(1, "2150-03-01T13:00:00", "OFF", amount, unit=amount_unit))
    (given,) = (
        run(data(tmp_path / "raw", rows), tmp_path / "out", mapping=str(file))
        .tables()
        .treatments.to_dicts()
    )
    assert (given["end"] - given["start"], given["dose"]) == (timedelta(hours=hours), dose)


def test_single_doses_starts_without_an_end_and_ends_without_a_start(tmp_path: Path):
    lines = [
        "GIVE//*,drug,vancomycin,g,,",
        "ON,drug_start,insulin,U/hour,,",
        "OFF,drug_end,insulin,U,,",
    ]
    file = mapping(tmp_path, [*STAYS, *lines, "LAB//220045//*,variable,hr,,,"])
    more = [
        row(1, "2150-03-01T11:00:00", "GIVE//vancomycin", 1.0),
        row(1, "2150-03-01T12:00:00", "ON", 4.0),
        row(2, "2150-03-02T12:00:00", "OFF", 4.0),
        row(3, "2150-03-03T13:00:00", "ON", 4.0),
        row(3, "2150-03-03T12:00:00", "OFF", 4.0),
        row(4, None, "ON", 4.0),
    ]
    extract = run(data(tmp_path / "raw", sound() + more), tmp_path / "out", mapping=str(file))
    given = extract.tables().treatments.select("stay_id", "drug", "dose")
    assert given.rows() == [(499, "vancomycin", 1000.0), (499, "insulin", None)]
    told = {k: n for k, n in extract.manifest.exclusions if "code" not in k}
    assert told == {
        "the end of a drug that no start goes with": 1,
        "a drug that ends before it starts": 1,
        "a measurement or drug without a time": 1,
    }


def test_codes_that_the_mapping_does_not_know_are_named_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "NAMED_CODES", 1)
    more = [
        row(i, "2150-03-01T12:00:00", code)
        for i, code in ((1, "ODD//A"), (2, "ODD//A"), (1, "ODD//B"), (1, "C"))
    ]
    extract = run(data(tmp_path / "raw", sound() + more), tmp_path / "out")
    found = {
        "the mapping does not know the code 'ODD//A'": 2,
        "the mapping does not know 2 other codes": 2,
    }
    assert dict(extract.manifest.exclusions) == found
    hushed = mapping(
        tmp_path, [*STAYS, "LAB//*,variable,hr,,,", "ODD//*,ignore,,,,", "C,ignore,,,,"]
    )
    named = run(tmp_path / "raw", tmp_path / "b", mapping=str(hushed)).manifest.exclusions
    assert not any("ODD" in reason or "'C'" in reason for reason, _ in named)


def test_the_standard_s_own_columns_are_enough(tmp_path: Path):
    root = data(tmp_path / "raw", sound(ids=False))
    whole = run(root, tmp_path / "whole")
    own = ["subject_id", "time", "code", "numeric_value"]
    for file in (root / "data").glob("**/*.parquet"):
        pl.read_parquet(file, columns=own).write_parquet(file)
    bare = run(root, tmp_path / "bare").tables()
    assert bare.events.equals(whole.tables().events)
    assert bare.treatments["dose"].to_list() == [None] * 4  # in a unit that nobody tells
    for file in (root / "data").glob("**/*.parquet"):
        pl.read_parquet(file, columns=own[:3]).write_parquet(file)
    with pytest.raises(CheckFailed, match="stay_without_events"):
        run(root, tmp_path / "none")


def test_a_measurement_without_a_number_is_counted(tmp_path: Path):
    more = [
        row(1, "2150-03-01T12:00:00", "LAB//220045//bpm"),
        row(1, "2150-03-01T13:00:00", "LAB//220045//bpm", float("nan")),
    ]
    extract = run(data(tmp_path / "raw", sound() + more), tmp_path / "out")
    assert dict(extract.manifest.exclusions) == {"a measurement without a number": 2}


SPOILT: dict[str, tuple[bool, list[Row], str]] = {
    "no discharge": (
        True,
        [row(9, "2150-01-01T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9)],
        "admission_without_discharge",
    ),
    "no admission": (
        True,
        [row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU", icustay_id=9)],
        "discharge_without_admission",
    ),
    "twice": (
        True,
        [row(9, f"2150-01-0{i}T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9) for i in (1, 2)],
        "icu_admission_twice",
    ),
    "no time": (True, [row(9, None, "ICU_ADMISSION//MICU", icustay_id=9)], "admission_time"),
    "still there": (
        False,
        [row(9, "2150-01-01T00:00:00", "ICU_ADMISSION//MICU")],
        "admission_without_discharge",
    ),
    "never came": (
        False,
        [row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU")],
        "discharge_without_admission",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_admission_that_makes_no_stay_is_named(tmp_path: Path, case: str):
    ids, more, rule = SPOILT[case]
    extract = run(data(tmp_path / "raw", sound(ids=ids) + more), tmp_path / "out")
    lines = pl.read_parquet(extract.path / "quarantine.parquet").filter(rule=rule)
    assert lines.height == len(more)
    assert lines["key"].str.starts_with("subject 9, ").all()
    assert extract.manifest.counts["stays"] == 4
    with pytest.raises(CheckFailed, match=rule):
        run(tmp_path / "raw", tmp_path / "strict", max_share=0.02)


def test_a_discharge_before_the_admission_with_its_id_breaks_the_contract(tmp_path: Path):
    more = [row(9, "2150-01-02T00:00:00", "ICU_ADMISSION//MICU", icustay_id=9)]
    more.append(row(9, "2150-01-01T00:00:00", "ICU_DISCHARGE//MICU", icustay_id=9))
    extract = run(data(tmp_path / "raw", sound() + more), tmp_path / "out")
    assert "admitted_before_discharged" in [q.rule for q in extract.manifest.quarantined]
    assert extract.manifest.counts["stays"] == 4


def labels(folder: Path, *rows: tuple[int, str, bool]) -> Path:
    told = {
        "subject_id": [r[0] for r in rows],
        "prediction_time": [moment(r[1]) for r in rows],
        "boolean_value": [r[2] for r in rows],
    }
    folder.mkdir()
    pl.DataFrame(told).cast({"prediction_time": pl.Datetime("us")}).write_parquet(
        folder / "0.parquet"
    )
    return folder


def test_episodes_out_of_labels(tmp_path: Path):
    told = labels(
        tmp_path / "labels",
        (1, "2150-03-01T12:00", False),
        (1, "2150-03-01T18:00", True),
        (1, "2150-03-02T00:00", True),
        (1, "2150-03-02T06:00", False),
        (1, "2150-03-02T12:00", True),
        (2, "2150-03-02T12:00", False),
        (3, "2149-03-02T12:00", True),
    )
    root, chosen = (
        data(tmp_path / "raw", sound()),
        {"labels": str(told), "label_known_after_hours": 10},
    )
    extract = run(root, tmp_path / "a", **chosen)
    assert extract.tables().episodes.rows() == [
        (499, moment("2150-03-01T18:00"), moment("2150-03-02T06:00"), moment("2150-03-02T04:00")),
        (499, moment("2150-03-02T12:00"), None, moment("2150-03-02T22:00")),
    ]
    assert dict(extract.manifest.exclusions) == {"a label outside every stay": 1}
    led = run(root, tmp_path / "b", label_lead_hours=6, **chosen).tables().episodes.row(0)
    assert led == (
        499,
        moment("2150-03-02T00:00"),
        moment("2150-03-02T12:00"),
        moment("2150-03-02T10:00"),
    )
    one, other = source(root, **chosen).fingerprint(), source(root).fingerprint()
    assert one != other


def septic(subject: int) -> list[Row]:
    """A culture, antibiotics over two days, and a platelet count that falls."""
    day = [f"2150-03-{subject + i:02d}" for i in range(3)]
    doses = [row(subject, f"{d}T12:00:00", "GIVE//vancomycin", 1.0) for d in day[:2]]
    counts = [(f"{day[0]}T09:00:00", 200.0), (f"{day[0]}T20:00:00", 60.0)]
    platelets = [row(subject, at, "PLT", n) for at, n in counts]
    return [row(subject, f"{day[0]}T11:00:00", "CULTURE//BLOOD CULTURE"), *doses, *platelets]


def test_episodes_by_sepsis_3_out_of_antibiotics_and_cultures(tmp_path: Path):
    lines = [
        "GIVE//*,drug,vancomycin,g,,",
        "CULTURE//*,culture,,,,",
        "PLT,variable,plt,,,",
        "LAB//*,variable,hr,,,",
    ]
    file = mapping(tmp_path, [*STAYS, *lines])
    rows = sound() + septic(1) + [r for r in septic(2) if "CULTURE" not in r["code"]]
    extract = run(data(tmp_path / "raw", rows), tmp_path / "out", mapping=str(file), sepsis3={})
    (episode,) = extract.tables().episodes.to_dicts()
    assert (episode["stay_id"], episode["onset"]) == (499, moment("2150-03-01T20:00"))
    assert episode["known_at"] > episode["onset"]
    assert dict(extract.manifest.source_counts)["stays with an episode"] == 1


def test_labels_and_sepsis_3_exclude_each_other(tmp_path: Path):
    with pytest.raises(UsageError, match="exclude each other"):
        run(data(tmp_path / "raw", sound()), tmp_path / "out", labels="here", sepsis3={})


MAPPINGS = {
    "kind": (["A,variabel,hr,,,"], ("line 2, column kind", "variable")),
    "variable": (["A,variable,heart,,,"], ("line 2, column name", "variable called 'heart'")),
    "drug": (["B,sex,F,,,", "A,drug_start,vancomicin,,,"], ("line 3, column name", "vancomycin")),
    "sex": (["A,sex,female,,,"], ("line 2, column name", "F, M")),
    "conversion": (["A,variable,hr,,farenheit,"], ("line 2, column convert", "fahrenheit")),
    "delay": (["A,variable,hr,,,soon"], ("line 2, column delay_hours", "'soon'")),
    "delay below 0": (["A,variable,hr,,,-1"], ("line 2, column delay_hours",)),
    "code": ([",variable,hr,,,"], ("line 2, column code",)),
    "star": (["A*,variable,hr,,,"], ("line 2, column code", "CODE//*")),
    "twice": (["A,variable,hr,,,", "A,variable,hr,,none,"], ("line 3", "comes twice")),
    "empty": ([], ("there are no rows",)),
}


@pytest.mark.parametrize("case", MAPPINGS)
def test_a_mapping_with_a_mistake_is_refused_with_its_line(tmp_path: Path, case: str):
    lines, parts = MAPPINGS[case]
    file = mapping(tmp_path, lines)
    with pytest.raises(UsageError) as refused:
        source(data(tmp_path / "raw", sound()), mapping=str(file))
    assert all(part in str(refused.value) for part in (*parts, "codes.csv")), str(refused.value)


def test_a_mapping_that_is_none_is_refused(tmp_path: Path):
    root = data(tmp_path / "raw", sound())
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        source(root, mapping=str(tmp_path / "nowhere.csv"))
    with pytest.raises(UsageError, match="no column 'kind'"):
        source(root, mapping=str(mapping(tmp_path, ["A,hr"], header="code,name")))


def broken(folder: Path, case: str) -> Path:
    root = data(folder, sound())
    file = root / "data" / "split" / "1.parquet"
    frame = pl.read_parquet(file)
    changed = {
        "no code": frame.drop("code"),
        "times as text": frame.with_columns(pl.col("time").cast(pl.String)),
        "a time zone": frame.with_columns(pl.col("time").dt.replace_time_zone("UTC")),
        "numbers as text": frame.with_columns(pl.col("numeric_value").cast(pl.String)),
        "rows of nobody": frame.with_columns(subject_id=pl.lit(None, pl.Int64)),
        "rows without a code": frame.with_columns(code=pl.lit(None, pl.String)),
    }
    if case in changed:
        changed[case].write_parquet(file)
    else:
        file.write_bytes(
            {"cut": file.read_bytes()[:-100], "text": b"no parquet", "empty": b""}[case]
        )
    return root


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("no code", ("'code'",)),
        ("times as text", ("'time'", "String", "Datetime")),
        ("a time zone", ("'time'", "UTC")),
        ("numbers as text", ("'numeric_value'", "String")),
        ("rows of nobody", ("'subject_id'", "20 rows have none")),
        ("rows without a code", ("'code'", "20 rows have none")),
        ("cut", ("cannot be read",)),
        ("text", ("cannot be read",)),
        ("empty", ("cannot be read",)),
    ],
)
def test_a_broken_shard_is_refused_with_its_name(tmp_path: Path, case: str, parts: tuple[str, ...]):
    with pytest.raises(CheckFailed) as refused:
        run(broken(tmp_path / "raw", case), tmp_path / "out")
    assert all(part in str(refused.value) for part in (*parts, "1.parquet")), str(refused.value)
    assert not (tmp_path / "out").exists()


def test_folders_without_shards_stays_or_labels_are_refused(tmp_path: Path):
    with pytest.raises(CheckFailed, match="no MEDS data set"):
        source(tmp_path)
    root = data(tmp_path / "raw", [row(1, "2150-01-01T00:00:00", "LAB//220045//bpm", 1.0)])
    with pytest.raises(CheckFailed, match="no stay is left"):
        run(root, tmp_path / "out")
    with pytest.raises(CheckFailed, match="there are no labels"):
        run(root, tmp_path / "out", labels=str(tmp_path / "nowhere"))
    (root / "metadata" / "dataset.json").write_text("{")
    with pytest.raises(CheckFailed, match=r"dataset\.json"):
        source(root)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("boolean_value", 1, "true and false"),
        ("prediction_time", "x", "times"),
        ("subject_id", "x", "whole numbers"),
    ],
)
def test_labels_of_another_type_are_refused(tmp_path: Path, column: str, value: Any, said: str):
    told = labels(tmp_path / "labels", (1, "2150-03-01T12:00", True))
    file = told / "0.parquet"
    pl.read_parquet(file).with_columns(pl.lit(value).alias(column)).write_parquet(file)
    with pytest.raises(CheckFailed, match=said):
        run(data(tmp_path / "raw", sound()), tmp_path / "out", labels=str(file))
    pl.read_parquet(file).drop(column).write_parquet(file)
    with pytest.raises(CheckFailed, match=f"no column '{column}'"):
        run(tmp_path / "raw", tmp_path / "out", labels=str(file))


def test_an_ingest_that_is_stopped_leaves_nothing_in_the_spill_folder(
    tmp_path: Path, flowsheet_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spill, "_MEMORY_LIMIT", 0)
    batches = source(data(tmp_path / "raw", sound())).batches()
    next(batches)
    assert any(path.is_dir() for path in (flowsheet_home / "spill").iterdir())
    batches.close()
    assert not list((flowsheet_home / "spill").iterdir())


@pytest.fixture(scope="module")
def both(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, Extract]:
    """The MIMIC-III demo by way of MEDS, and its raw tables read directly."""
    raw, folder = data_dir / "mimic3-demo", tmp_path_factory.mktemp("meds")
    chosen = ["cohort.options.known_at=storetime", "cohort.options.sepsis3={}"]
    ways = {"meds": (meds.convert_mimic3(raw, folder / "raw"), chosen), "mimic3": (raw, [])}
    made = []
    for name, (path, overrides) in ways.items():
        config = compose_cohort(name, [f"cohort.path={path}", *overrides])
        made.append(ingest(make_source(config), config, folder / name, lambda line: None))
    return made[0], made[1]


def differing(one: pl.DataFrame, other: pl.DataFrame, key: list[str], value: str) -> pl.DataFrame:
    """Rows of either that the other has not, with about the same value."""
    pairs = one.join(other, on=key, how="full", suffix="_other", coalesce=True, nulls_equal=True)
    a, b = pl.col(value), pl.col(f"{value}_other")
    close = ((a - b).abs() <= 2e-6 * b.abs() + 2e-6) | (a.is_null() & b.is_null())
    return pairs.filter(~close.fill_null(value=False))


@pytest.mark.realdata
class TestMimic3Demo:
    CONTEXT = ("vent", "gcs", "vgcs", "po2", "sao2")
    """What the direct route reads out of words or out of several rows: a mapping of codes cannot."""

    def test_stays_agree_with_the_direct_route(self, both: tuple[Extract, Extract]):
        ours, direct = (extract.tables().stays for extract in both)
        assert ours.height == 136
        columns = [
            "stay_id",
            "subject_id",
            "admitted_at",
            "discharged_at",
            "sex",
            "unit",
            "hospital_admitted_at",
        ]
        shared = ours.join(direct, on="stay_id", how="semi")
        assert shared.select(columns).equals(direct.select(columns))
        assert (shared["age"] - direct["age"]).abs().max() < 1e-6

    def test_values_agree_with_the_direct_route(self, both: tuple[Extract, Extract]):
        ours, direct = (extract.tables() for extract in both)
        key = ["stay_id", "time", "known_at", "variable"]
        begin = direct.stays.select("stay_id", "admitted_at")
        kept = ~pl.col("variable").is_in(self.CONTEXT)
        one, other = (
            tables.events.filter(kept).join(begin, on="stay_id") for tables in (ours, direct)
        )
        inside = pl.col("time") >= pl.col("admitted_at")
        found = differing(one.filter(inside), other.filter(inside), key, "value")
        assert other.filter(inside).height > 100_000
        assert found.is_empty(), str(found.group_by("variable").len())
        before = other.filter(~inside)
        assert differing(one.join(before, on=key, how="semi"), before, key, "value").is_empty()

    def test_what_runs_agrees_with_the_direct_route(self, both: tuple[Extract, Extract]):
        ours, direct = (extract.tables().treatments for extract in both)
        mapped = set(Mapping.read("mimic").names("drug_start"))
        drugs = ["norepinephrine", "phenylephrine", "insulin", "heparin", "fentanyl", "midazolam"]
        assert set(drugs) <= mapped
        metavision = both[1].tables().stays.filter(site="metavision")["stay_id"].implode()
        runs = (
            (pl.col("end") > pl.col("start"))
            & pl.col("drug").is_in(drugs)
            & pl.col("stay_id").is_in(metavision)
        )
        key = ["stay_id", "drug", "start", "end", "known_at"]
        assert ours.filter(runs).height > 500
        found = differing(ours.filter(runs), direct.filter(runs), key, "dose")
        assert found.is_empty(), str(found)

    def test_the_open_records_keep_the_contract_and_have_episodes(
        self, both: tuple[Extract, Extract]
    ):
        assert check_extract(both[0].path).is_empty()
        ours, direct = (extract.tables() for extract in both)
        metavision = direct.stays.filter(site="metavision")["stay_id"]
        assert (
            0 < ours.episodes["stay_id"].n_unique() <= len(metavision)
        )  # CareVue's antibiotics are orders
        assert ours.episodes["stay_id"].is_in(metavision.implode()).all()


def test_the_shipped_mapping_speaks_the_catalogue_s_language():
    rules = Mapping.read("mimic").rules
    items = catalogue.mimic3_items().select("name", item=pl.col("itemid").cast(pl.String))
    named = rules.filter(pl.col("code").str.contains(r"\d{2,}"))
    own = named.select("code", "name", item=pl.col("code").str.extract(r"(\d{2,})"))
    assert own.join(items, on=["name", "item"], how="anti").is_empty()
    assert own.height > 400
