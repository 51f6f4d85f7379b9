"""A database of one's own is one YAML and one file of items, in a project."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.base import SOURCES, Source
from flowsheet.config import CohortConfig, QuarantineConfig
from flowsheet.errors import UsageError
from tests.cohort.divided_ingest import ingest_both

YAML = """
title: Toy
items: {files: [toy_items.csv]}
tables:
  admissions:
    role: stays
    columns: {subject_id: patient, stay_id: id, admitted_at: start, discharged_at: stop}
  vitals:
    role: events
    columns: {subject_id: patient, stay_id: admission, item: item, time: at, number: value}
"""
TEXT_YAML = """
title: Toy
time_zone: UTC
text_ids: true
items: {files: [toy_items.csv], text: true}
tables:
  admissions:
    role: stays
    keep: {location: [icu]}
    columns:
      {subject_id: patient, hadm_id: case, location: place, admitted_at: start, discharged_at: stop}
  vitals:
    role: events
    columns: {hadm_id: case, item: item, time: at, number: value}
  wide:
    role: events
    columns: {hadm_id: case, time: at}
    values: {temp_f: number, fio2: number, "weight?": number}
"""
ITEMS = "kind,name,table,itemid,convert\nvariable,hr,vitals,1,\nvariable,temp,vitals,2,fahrenheit\n"


@pytest.fixture
def databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flowsheet_home: Path) -> Path:
    """The folder of a project's databases, with one of them."""
    (tmp_path / "flowsheet.toml").write_text('package = "toy_study"\n', encoding="utf-8")
    folder = tmp_path / "src" / "toy_study" / "databases"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "toy.yaml").write_text(YAML, encoding="utf-8")
    (folder / "toy_items.csv").write_text(ITEMS, encoding="utf-8")
    (tmp_path / "admissions.csv").write_text(
        "patient,id,start,stop\n7,70,2150-01-01 10:00:00,2150-01-02 10:00:00\n", encoding="utf-8"
    )
    (tmp_path / "vitals.csv").write_text(
        "patient,admission,item,at,value\n7,70,1,2150-01-01 11:00:00,80\n"
        "7,,2,2150-01-01 12:00:00,98.6\n7,71,1,2150-01-01 12:00:00,90\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SOURCES, "_classes", dict(SOURCES._classes))
    return folder


def make_toy(folder: Path) -> Source:
    return make_source(CohortConfig(name="toy", source="toy", path=str(folder)))


def test_other_processes_build_batches_of_it(databases: Path, tmp_path: Path):
    cohort = CohortConfig(name="toy", source="toy", path=str(tmp_path), allow_empty=True)
    cohort = cohort.model_copy(update={"quarantine": QuarantineConfig(max_share=0.9)})
    (tmp_path / "out").mkdir()
    assert "quarantine.parquet" in ingest_both(cohort, tmp_path / "out")


def test_stays_and_events_are_read_and_wrong_rows_named(databases: Path, tmp_path: Path):
    assert "toy" in SOURCES.names()
    source = make_toy(tmp_path)
    batch = next(iter(source.batches()))
    assert batch.stays.select("stay_id", "subject_id", "age").rows() == [(70, 7, None)]
    rows = batch.events.filter(variable="hr").select("stay_id", "value").rows()
    assert rows == [(70, 80.0)]
    assert batch.events.filter(variable="temp")["value"].to_list() == [37.0]
    assert batch.defects.select("table", "column", "rule", "value").rows() == [
        ("vitals", "admission", "unknown_stay", "71")
    ]
    assert source.variables[:2] == ("hr", "temp")


def test_a_changed_description_is_another_input(databases: Path, tmp_path: Path):
    before = make_toy(tmp_path).fingerprint()
    file = databases / "toy_items.csv"
    file.write_text(ITEMS.replace("fahrenheit", "none"), encoding="utf-8")
    assert make_toy(tmp_path).fingerprint() != before


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("toy.yaml", "role: events", "role: event", "event"),
        ("toy.yaml", "number: value", "numbr: value", "number"),
        ("toy.yaml", "time: at, ", "", "needs the fields time"),
        ("toy.yaml", "title: Toy", "title: [", "not valid YAML"),
        ("toy.yaml", "toy_items.csv", "toy_item.csv", "toy_item.csv"),
        ("toy_items.csv", "temp", "tmp", "temp"),
        ("toy_items.csv", "vitals,2", "vital,2", "vital"),
        ("toy_items.csv", "vitals,2", "vitals,x", "whole number"),
        ("toy_items.csv", "fahrenheit", "farenheit", "fahrenheit"),
        ("toy_items.csv", "itemid", "item", "item"),
    ],
)
def test_a_wrong_description_is_refused_with_the_place(
    databases: Path, tmp_path: Path, file: str, old: str, new: str, reason: str
):
    path = databases / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=reason) as refused:
        make_toy(tmp_path)
    assert "toy" in str(refused.value)


def test_items_and_ids_may_be_texts_and_a_table_have_a_column_for_each_item(
    databases: Path, tmp_path: Path
):
    """As in docs/databases.md: one YAML, its items, no code."""
    (databases / "toy.yaml").write_text(TEXT_YAML, encoding="utf-8")
    (databases / "toy_items.csv").write_text(
        "kind,name,table,itemid,convert\nvariable,hr,vitals,Heart rate,\n"
        "variable,temp,wide,temp_f,fahrenheit\nvariable,fio2,wide,fio2,fraction_or_percent\n",
        encoding="utf-8",
    )
    (tmp_path / "admissions.csv").write_text(
        "patient,case,start,stop,place\nA7,K1,2150-01-01 10:00Z,2150-01-02 10:00Z,ICU\n"
        "A7,K1,2150-01-02 10:00Z,2150-01-03 10:00Z,icu\nA7,K1,2150-01-03 10:00Z,,ward\n",
        encoding="utf-8",
    )
    (tmp_path / "vitals.csv").write_text(
        "case,item,at,value\nK1,heart-rate,2150-01-01 11:00+01:00,80\n"
        "K2,heart rate,2150-01-01 11:00Z,90\n",
        encoding="utf-8",
    )
    (tmp_path / "wide.csv").write_text(
        "case,at,temp_f,fio2\nK1,2150-01-02 11:00Z,98.6,0.4\n", encoding="utf-8"
    )
    batch = next(iter(make_toy(tmp_path).batches()))
    assert batch.stays.select("admitted_at", "discharged_at").rows() == [
        (datetime(2150, 1, 1, 10), datetime(2150, 1, 3, 10))
    ]
    assert batch.events.select("variable", "time", "value").rows() == [
        ("hr", datetime(2150, 1, 1, 10), 80.0),
        ("fio2", datetime(2150, 1, 2, 11), 40.0),
        ("temp", datetime(2150, 1, 2, 11), 37.0),
    ]
    assert batch.defects.select("column", "rule").rows() == [("case", "unknown_admission")]


def test_sepsis_is_looked_for_where_there_are_cultures(databases: Path, tmp_path: Path):
    assert make_toy(tmp_path).responses == ()
    file = databases / "toy.yaml"
    cultures = (
        "  cultures:\n    role: cultures\n    optional: true\n"
        "    columns: {hadm_id: admission, time: at, specimen: kind}\n"
    )
    file.write_text(YAML + cultures, encoding="utf-8")
    SOURCES._classes.pop("toy", None)
    assert make_toy(tmp_path).responses == ("sepsis",)
