from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.physionet2012 import PhysioNet2012
from flowsheet.config import CohortConfig, FrozenModel
from flowsheet.errors import CheckFailed
from flowsheet.testing.physionet2012 import record_text, write_challenge
from flowsheet.testing.sources import SourceConformance

DEATHS = {102: 3}


def write_folder(folder: Path, *rows: str, height: float = 170) -> Path:
    texts = {101: record_text(101, rows, height), 102: record_text(102), 103: record_text(103)}
    return write_challenge(folder, texts, DEATHS)


def read(folder: Path):
    (batch,) = PhysioNet2012(folder, FrozenModel()).batches()
    return batch


def values(batch, variable: str) -> list[float]:
    return batch.events.filter(stay_id=101, variable=variable)["value"].to_list()


class TestPhysioNet2012(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return PhysioNet2012(write_folder(folder), FrozenModel())

    def make_changed(self, folder: Path) -> Source:
        return PhysioNet2012(write_folder(folder, "05:10,Lactate,2.5"), FrozenModel())


@pytest.mark.parametrize(
    ("row", "variable", "expected"),
    [
        ("05:10,pH,735", "ph", 7.35),
        ("05:10,pH,73.5", "ph", 7.35),
        ("05:10,Temp,2.8", "temp", 37.04),
        ("05:10,Temp,98.6", "temp", 37.0),
        ("05:10,Temp,371", "temp", 37.1),
        ("05:10,FiO2,0.4", "fio2", 40.0),
    ],
)
def test_a_wrong_unit_is_corrected(tmp_path: Path, row: str, variable: str, expected: float):
    batch = read(write_folder(tmp_path, row))
    assert values(batch, variable) == pytest.approx([expected])
    is_correction = "FiO2" not in row
    assert any("corrected" in reason for reason in batch.exclusions) is is_correction


@pytest.mark.parametrize(
    ("height", "expected"), [(1.8, 180), (17.8, 178), (431.8, 170), (-1, None)]
)
def test_heights(tmp_path: Path, height: float, expected: float | None):
    batch = read(write_folder(tmp_path, height=height))
    assert batch.stays["height_cm"][0] == (None if expected is None else pytest.approx(expected))


def test_death_in_hospital_is_the_response(tmp_path: Path):
    config = CohortConfig(
        name="c",
        source="physionet2012",
        path=str(write_folder(tmp_path / "raw")),
        responses={"death": {}},
    )
    extract = ingest(make_source(config), config, tmp_path / "extract", lambda line: None)
    (row,) = extract.scan("episodes").collect().rows(named=True)
    assert (row["stay_id"], row["response"]) == (102, "death")
    assert (row["onset"] - EPOCH).total_seconds() == 3.5 * 24 * 3600
    assert extract.manifest.responses == ("death",)


def test_values_at_one_time(tmp_path: Path):
    rows = ["05:10,NIMAP,60", "05:10,MAP,65", "05:10,Urine,100", "05:10,Urine,50"]
    batch = read(write_folder(tmp_path, *rows))
    assert 65.0 in values(batch, "map")
    assert 60.0 not in values(batch, "map")
    assert values(batch, "urine") == [150.0]


def test_rows_that_cannot_be_read_are_quarantined_alone(tmp_path: Path):
    rows = ["5:10,HR,80", "05:10,HR,abc", "05:11,HR", "49:00,HR,80", "05:12,Mood,3", "05:13,HR,-1"]
    batch = read(write_folder(tmp_path, *rows))
    assert batch.defects["rule"].to_list() == ["time", "number", "fields", "time"]
    assert "row" in batch.defects["key"][0]
    assert batch.exclusions["the parameter 'Mood' is not in the catalogue"] == 1
    assert batch.stays.height == 3


BROKEN = {
    "another delimiter": ("columns", record_text(102).replace(",", ";")),
    "no rows": ("columns", ""),
    "another record": ("record_id", record_text(999)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, case: str):
    rule, text = BROKEN[case]
    folder = write_folder(tmp_path)
    (folder / "set-a" / "102.txt").write_text(text, encoding="utf-8")
    batch = read(folder)
    assert batch.stays["stay_id"].to_list() == [101, 103]
    assert batch.defects["rule"].to_list() == [rule]
    assert batch.defects["key"].to_list() == ["102.txt"]


def test_a_file_that_is_not_utf8_and_a_stay_without_outcome(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "set-a" / "102.txt").write_bytes(b"Time,Parameter,Value\n\xff\xfe")
    (folder / "set-a" / "104.txt").write_text(record_text(104), encoding="utf-8")
    assert set(read(folder).defects["rule"]) == {"encoding", "outcome"}


def test_two_files_of_a_stay(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "set-b").mkdir()
    shutil.copy(folder / "set-a" / "102.txt", folder / "set-b")
    batch = read(folder)
    assert batch.stays["stay_id"].to_list() == [101, 103]
    assert batch.defects["rule"].to_list() == ["one_file_a_stay"] * 2


def test_a_zip_gives_the_same_rows(tmp_path: Path):
    folder = write_folder(tmp_path)
    expected = read(folder)
    with zipfile.ZipFile(folder / "set-a.zip", "w") as archive:
        for file in sorted((folder / "set-a").iterdir()):
            archive.write(file, f"set-a/{file.name}")
    shutil.rmtree(folder / "set-a")
    for path in (folder, folder / "set-a.zip"):
        assert read(path).events.equals(expected.events)
        assert read(path).stays.equals(expected.stays)


def test_what_is_missing_is_named(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "Outcomes-a.txt").rename(folder / "kept.csv")
    with pytest.raises(CheckFailed, match="no file of outcomes"):
        PhysioNet2012(folder, FrozenModel())
    (folder / "Outcomes-a.txt").write_text("RecordID,Survival\n101,3\n", encoding="utf-8")
    with pytest.raises(CheckFailed, match="no column 'In-hospital_death'"):
        read(folder)
    (folder / "set-a.zip").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CheckFailed, match="the zip cannot be read"):
        PhysioNet2012(folder, FrozenModel())
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckFailed, match=r"no files <RecordID>\.txt"):
        PhysioNet2012(empty, FrozenModel())


WRONG_OUTCOMES = {
    "another delimiter": ("RecordID;Survival;In-hospital_death\n101;3;1\n", "no column 'RecordID'"),
    "too many fields": ("RecordID,Survival,In-hospital_death\n101,3,1,4\n", "cannot be read"),
    "too few fields": ("RecordID,Survival,In-hospital_death\n102,-1,0\n101,3\n", "no number"),
    "no number": ("RecordID,Survival,In-hospital_death\n102,-1,0\n101,x,1\n", "no number"),
    "no flag": ("RecordID,Survival,In-hospital_death\n102,-1,0\n101,3,2\n", "is not 0 or 1"),
    "alive and dead": ("RecordID,Survival,In-hospital_death\n102,-1,0\n101,-1,1\n", "alive"),
    "twice": ("RecordID,Survival,In-hospital_death\n101,3,1\n101,3,1\n", "comes twice"),
    "empty": ("", "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG_OUTCOMES)
def test_wrong_outcomes_are_refused_with_their_line(tmp_path: Path, case: str):
    folder = write_folder(tmp_path)
    text, what = WRONG_OUTCOMES[case]
    (folder / "Outcomes-a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(CheckFailed, match=what) as caught:
        read(folder)
    where = caught.value.where or ""
    assert "Outcomes-a.txt" in where
    if what in ("no number", "is not 0 or 1", "alive"):
        assert where.endswith("line 3")


def test_stays_in_the_outcomes_without_a_file_are_counted_and_named(tmp_path: Path):
    folder = write_folder(tmp_path)
    (folder / "set-a" / "103.txt").unlink()
    source = PhysioNet2012(folder, FrozenModel())
    (warning,) = source.warnings()
    assert warning.startswith("FILES ARE MISSING: 1 of the 3 stays in the outcomes have no file")
    assert warning.endswith("103")


def test_a_damaged_file_in_a_zip_is_refused_by_name(tmp_path: Path):
    folder = write_folder(tmp_path)
    rows = "".join(f"{h:02d}:{m:02d},HR,{h + m}\n" for h in range(47) for m in range(60))
    with zipfile.ZipFile(folder / "set-a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set-a/102.txt", record_text(102) + rows)
    shutil.rmtree(folder / "set-a")
    content = bytearray((folder / "set-a.zip").read_bytes())
    for i in range(200, 260):
        content[i] ^= 0xFF
    (folder / "set-a.zip").write_bytes(bytes(content))
    with pytest.raises(CheckFailed, match="the file cannot be read") as caught:
        read(folder)
    assert "102.txt" in (caught.value.where or "")


@pytest.mark.slow
def test_set_a(data_dir: Path):
    source = PhysioNet2012(data_dir / "physionet2012", FrozenModel())
    batches = list(source.batches())
    stays = pl.concat(batch.stays for batch in batches)
    assert stays.height == 4_000
    assert stays["hospital_death"].sum() == 554
    assert sum(batch.exclusions.get("pH corrected: times 100", 0) for batch in batches) == 3
