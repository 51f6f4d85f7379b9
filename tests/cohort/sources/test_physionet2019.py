"""The challenge's files: what they mean, and what becomes of broken ones."""

from __future__ import annotations

import zipfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import EPOCH
from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.physionet2019 import COLUMNS, PhysioNet2019
from flowsheet.compose import compose_cohort
from flowsheet.errors import CheckFailed, UsageError
from flowsheet.testing import psv
from flowsheet.testing.sources import SourceConformance


def source(path: Path, **options: float) -> PhysioNet2019:
    return PhysioNet2019(path, PhysioNet2019.Options(**options))


def run(folder: Path, target: Path, max_share: float = 1.0, **policies: str) -> Extract:
    config = psv.cohort_config(folder, quarantine={"max_share": max_share, "rules": policies})
    return ingest(make_source(config), config, target, lambda line: None)


def set_cell(rows: psv.Rows, row: int, column: str, value: str) -> psv.Rows:
    rows[row][COLUMNS.index(column)] = value
    return rows


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def zipped(folder: Path, members: list[str]) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.write(folder / name, f"training/{name}")
    return path


class TestPhysioNet2019(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return source(psv.write_patients(folder))

    def make_shuffled(self, folder: Path) -> Source:
        psv.write_patients(folder)
        return source(zipped(folder, names(folder)[::-1]))

    def make_changed(self, folder: Path) -> Source:
        psv.write_patients(folder)
        psv.write_patient(folder, 1, set_cell(psv.patient_rows(1), 4, "HR", "61.5"))
        return source(folder)


def test_times_and_people(tmp_path: Path):
    tables = run(psv.write_patients(tmp_path / "raw"), tmp_path / "out").tables()
    late = tables.stays.filter(stay_id=3).row(0, named=True)
    assert late["admitted_at"] == EPOCH
    assert late["observed_from"] == EPOCH + timedelta(hours=4)
    assert late["discharged_at"] == EPOCH + timedelta(hours=16)
    assert late["hospital_admitted_at"] == EPOCH - timedelta(hours=5, minutes=15)
    assert (late["sex"], late["unit"], late["site"], late["age"]) == ("M", "MICU", "A", 63.5)
    assert tables.stays.filter(stay_id=2).select("sex", "observed_from").row(0) == ("F", None)
    assert tables.events.filter(stay_id=3)["time"].min() == EPOCH + timedelta(hours=5)
    assert tables.events["time"].equals(tables.events["known_at"].alias("time"))
    assert set(tables.events.filter(variable="fio2")["value"]) == {40.0}


def test_onset_is_six_hours_after_the_label_turns_and_known_when_the_definition_is_met(
    tmp_path: Path,
):
    raw = psv.write_patients(tmp_path / "raw")
    onset = EPOCH + timedelta(hours=8 + 6)
    assert run(raw, tmp_path / "out").tables().episodes.rows() == [
        (2, onset, None, onset + timedelta(hours=168))
    ]
    (batch,) = source(raw, label_known_after_hours=1).batches()
    assert batch.episodes["known_at"].to_list() == [onset + timedelta(hours=1)]


@pytest.mark.parametrize(
    ("text", "percent"),
    [("0.21", 21.0), ("0.28", 28.0), ("1", 100.0), ("50", 50.0), ("0", 0.0), ("10", 10.0)],
)
def test_fio2_becomes_percent(tmp_path: Path, text: str, percent: float):
    psv.write_patient(tmp_path, 1, set_cell(psv.patient_rows(1, hours=1), 0, "FiO2", text))
    (batch,) = source(tmp_path).batches()
    assert batch.events.filter(variable="fio2")["value"].to_list() == [percent]


def test_sites_by_number(tmp_path: Path):
    for patient in (1, 100_001, 200_001):
        psv.write_patient(tmp_path, patient, psv.patient_rows(patient))
    (batch,) = source(tmp_path).batches()
    assert batch.stays["site"].to_list() == ["A", "B", "unknown"]


def cell(column: str, value: str, row: int = 4) -> psv.Rows:
    return set_cell(psv.patient_rows(9), row, column, value)


def without(column: str) -> str:
    i = COLUMNS.index(column)
    return psv.format_psv(
        [r[:i] + r[i + 1 :] for r in psv.patient_rows(9)], COLUMNS[:i] + COLUMNS[i + 1 :]
    )


def swapped(rows: psv.Rows) -> psv.Rows:
    rows[3], rows[4] = rows[4], rows[3]
    return rows


SOUND = psv.format_psv(psv.patient_rows(9))
BROKEN: dict[str, tuple[psv.Rows | str | bytes, str, str]] = {
    "empty": ("", "no_rows", ""),
    "header only": (psv.format_psv([]), "no_rows", ""),
    "missing column": (without("EtCO2"), "columns", ""),
    "extra column": (
        psv.format_psv([[*r, "1"] for r in psv.patient_rows(9)], [*COLUMNS, "Mood"]),
        "columns",
        "",
    ),
    "column twice": (
        psv.format_psv([[*r, "1"] for r in psv.patient_rows(9)], [*COLUMNS, "HR"]),
        "columns",
        "",
    ),
    "not a psv": ("hello\nworld\n", "columns", ""),
    "too few fields": (
        psv.format_psv([*psv.patient_rows(9)[:4], ["1", "2"]]),
        "fields",
        "row 5 (line 6)",
    ),
    "too many fields": (
        psv.format_psv([[*psv.patient_rows(9)[0], "1"], *psv.patient_rows(9)[1:]]),
        "fields",
        "row 1 (line 2)",
    ),
    "compensating fields": (
        psv.format_psv(
            [psv.patient_rows(9)[0][:-1], [*psv.patient_rows(9)[1], "1"], *psv.patient_rows(9)[2:]]
        ),
        "fields",
        "row 1 (line 2)",
    ),
    "blank line inside": (SOUND.replace("\n", "\n\n", 3), "fields", "row 1 (line 2)"),
    "cut off": (SOUND[:-20], "fields", "row 12 (line 13)"),
    "bytes": (SOUND.encode().replace(b"NaN", b"\xff\xfe", 1), "encoding", "row 1 (line 2)"),
    "text in age": (cell("Age", "old"), "number", "row 5 (line 6)"),
    "inf in age": (
        psv.format_psv([set_cell([r], 0, "Age", "inf")[0] for r in psv.patient_rows(9)]),
        "number",
        "row 1 (line 2)",
    ),
    "hour NaN": (cell("ICULOS", "NaN"), "hour_number", "row 5 (line 6)"),
    "hour fraction": (cell("ICULOS", "5.5"), "hour_number", "row 5 (line 6)"),
    "hour zero": (cell("ICULOS", "0", row=0), "hour_number", "row 1 (line 2)"),
    "hour infinite": (cell("ICULOS", "inf"), "hour_number", "row 5 (line 6)"),
    "hour beyond all": (cell("ICULOS", "1e300"), "hour_number", "row 5 (line 6)"),
    "hour text": (cell("ICULOS", "five"), "number", "row 5 (line 6)"),
    "hour twice": (cell("ICULOS", "4"), "duplicate_hour", "row 5 (line 6)"),
    "backwards": (swapped(psv.patient_rows(9)), "missing_hour", "row 4 (line 5)"),
    "reversed": (psv.patient_rows(9)[::-1], "hour_backwards", "row 2 (line 3)"),
    "gap": ([*psv.patient_rows(9)[:3], *psv.patient_rows(9)[5:]], "missing_hour", "row 4 (line 5)"),
    "label 2": (cell("SepsisLabel", "2"), "label", "row 5 (line 6)"),
    "label NaN": (cell("SepsisLabel", "NaN"), "label", "row 5 (line 6)"),
    "label returns": (cell("SepsisLabel", "1"), "label_returns", "row 6 (line 7)"),
    "age changes": (cell("Age", "64"), "fixed_value", "row 5 (line 6)"),
    "sex changes": (cell("Gender", "0"), "fixed_value", "row 5 (line 6)"),
    "sex of 3": (
        psv.format_psv([set_cell([r], 0, "Gender", "3")[0] for r in psv.patient_rows(9)]),
        "flag",
        "row 1 (line 2)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_and_set_aside_alone(tmp_path: Path, case: str):
    content, rule, row = BROKEN[case]
    raw = psv.write_patients(tmp_path / "raw")
    psv.write_patient(raw, 9, content)
    extract = run(raw, tmp_path / "out")
    (line,) = pl.read_parquet(extract.path / "quarantine.parquet").to_dicts()
    assert (line["table"], line["rule"]) == ("stays", rule)
    assert line["key"] == f"p000009.psv {row}".strip()
    assert extract.tables().stays["stay_id"].to_list() == [1, 2, 3, 4]
    assert dict(extract.manifest.attrition)["patients' files"] == 5
    assert [(q.rule, q.rows) for q in extract.manifest.quarantined] == [(rule, 1)]


@pytest.mark.parametrize("case", BROKEN)
def test_too_much_broken_is_refused_with_file_row_and_rule(tmp_path: Path, case: str):
    content, rule, row = BROKEN[case]
    raw = psv.write_patients(tmp_path / "raw")
    good = run(raw, tmp_path / "out")
    psv.write_patient(raw, 9, content)
    with pytest.raises(CheckFailed) as refused:
        run(raw, tmp_path / "out", max_share=0.1)
    message = str(refused.value)
    assert all(part in message for part in ("p000009.psv", row, rule))
    assert Extract.open(tmp_path / "out", verify=True).fingerprint == good.fingerprint
    assert names(tmp_path) == ["out", "raw"]


MEANT = {
    "crlf": SOUND.replace("\n", "\r\n"),
    "no last newline": SOUND.rstrip("\n"),
    "blank lines at the end": SOUND + "\n\n",
    "byte order mark": b"\xef\xbb\xbf" + SOUND.encode(),
    "empty fields": SOUND.replace("NaN", ""),
    "small nan": SOUND.replace("NaN", "nan"),
    "columns in another order": psv.format_psv(
        [r[::-1] for r in psv.patient_rows(9)], COLUMNS[::-1]
    ),
}


@pytest.mark.parametrize("case", MEANT)
def test_what_is_meant_is_read(tmp_path: Path, case: str):
    sound, other = tmp_path / "sound", tmp_path / "other"
    for folder, content in ((sound, SOUND), (other, MEANT[case])):
        psv.write_patients(folder)
        psv.write_patient(folder, 9, content)
    assert run(other, tmp_path / "b").fingerprint == run(sound, tmp_path / "a").fingerprint


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("HR", "fast", "number"),
        ("HR", "80,5", "number"),
        ("HR", "5000", "plausible_range"),
        ("HR", "inf", "finite"),
        ("HR", "-1", "plausible_range"),
        ("FiO2", "0.04", "plausible_range"),
    ],
)
def test_one_impossible_measurement_is_set_aside_alone(
    tmp_path: Path, column: str, value: str, rule: str
):
    raw = psv.write_patients(tmp_path / "raw")
    before = run(raw, tmp_path / "before").manifest.counts
    psv.write_patient(raw, 1, set_cell(psv.patient_rows(1), 4, column, value))
    extract = run(raw, tmp_path / "after")
    (line,) = pl.read_parquet(extract.path / "quarantine.parquet").to_dicts()
    assert (line["table"], line["rule"]) == ("events", rule)
    assert "stay 1" in line["key"] or line["key"] == "p000001.psv row 5 (line 6)"
    assert extract.manifest.counts == before | {"events": before["events"] - 1}


def test_a_patient_without_measurements_is_quarantined_by_its_own_rule(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    bare = [["NaN"] * 34 + row[34:] for row in psv.patient_rows(9, septic_from=3)]
    psv.write_patient(raw, 9, bare)
    extract = run(raw, tmp_path / "out")
    found = {(q.table, q.rule): q.rows for q in extract.manifest.quarantined}
    assert found == {("stays", "stay_without_events"): 1, ("episodes", "stay_quarantined"): 1}
    assert dict(extract.manifest.attrition)["have measurements"] == 4


def test_two_files_for_one_patient_are_both_set_aside(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw" / "a").parent
    psv.write_patient(raw / "b", 1, psv.patient_rows(1))
    extract = run(raw, tmp_path / "out")
    lines = pl.read_parquet(extract.path / "quarantine.parquet")
    assert lines["key"].to_list() == ["a/p000001.psv", "b/p000001.psv"]
    assert set(lines["rule"]) == {"one_file_a_patient"}
    assert extract.manifest.counts["stays"] == 3


def test_a_psv_file_without_a_number_is_not_passed_over(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    (raw / "patient.psv").write_text(SOUND)
    assert [q.rule for q in run(raw, tmp_path / "out").manifest.quarantined] == ["file_name"]


def test_nothing_but_broken_files_is_a_refusal(tmp_path: Path):
    psv.write_patient(tmp_path / "raw", 1, "")
    with pytest.raises(CheckFailed, match="no stay is left"):
        run(tmp_path / "raw", tmp_path / "out")


def test_a_damaged_member_of_a_zip_is_set_aside(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    path = zipped(raw, names(raw))
    data = bytearray(path.read_bytes())
    place = data.index(b"0.4") + 1
    data[place] ^= 1
    path.write_bytes(bytes(data))
    extract = run(path, tmp_path / "out")
    assert [(q.rule, q.rows) for q in extract.manifest.quarantined] == [("unreadable_file", 1)]


def make_unreadable(folder: Path, case: str) -> Path:
    good = zipped(psv.write_patients(folder / "raw"), ["p000001.psv"])
    path = folder / "records.zip"
    if case == "empty folder":
        path.mkdir()
    elif case == "truncated":
        path.write_bytes(good.read_bytes()[:-100])
    elif case == "text":
        path.write_text("this is no archive")
    elif case == "empty file":
        path.write_bytes(b"")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "no patients here")
    return path


@pytest.mark.parametrize(
    "case", ["empty folder", "truncated", "text", "empty file", "zip without psv"]
)
def test_records_that_cannot_be_read_are_refused_with_their_place(tmp_path: Path, case: str):
    path = make_unreadable(tmp_path, case)
    with pytest.raises(CheckFailed) as refused:
        source(path).fingerprint()
    assert str(path) in str(refused.value)
    with pytest.raises(CheckFailed):
        run(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_rule_can_be_declared_to_allow_no_exception(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    psv.write_patient(raw, 1, set_cell(psv.patient_rows(1), 4, "HR", "5000"))
    with pytest.raises(CheckFailed, match=r"plausible_range[\s\S]*stay 1[\s\S]*5000"):
        run(raw, tmp_path / "out", plausible_range="reject")


def test_a_mistyped_rule_or_option_is_refused_with_the_nearest(tmp_path: Path):
    with pytest.raises(UsageError, match="missing_hour"):
        make_source(psv.cohort_config(tmp_path, quarantine={"rules": {"mising_hour": "reject"}}))
    with pytest.raises(UsageError, match="label_known_after_hours"):
        make_source(psv.cohort_config(tmp_path, options={"label_known_after": 3}))
    with pytest.raises(UsageError, match=r"cohort\.path"):
        make_source(psv.cohort_config(None))
    with pytest.raises(UsageError, match="do not exist"):
        make_source(psv.cohort_config(tmp_path / "nowhere"))


@pytest.mark.realdata
@pytest.mark.slow
def test_training_set_a_whole(data_dir: Path, tmp_path: Path):
    path = data_dir / "physionet2019" / "training_setA.zip"
    config = compose_cohort("physionet2019", [f"cohort.path={path}"])
    extract = ingest(make_source(config), config, tmp_path / "out", lambda line: None)
    counts = extract.manifest.counts
    assert (counts["stays"], counts["hours"], counts["stays_with_episode"]) == (
        20_336,
        790_215,
        1_790,
    )
    assert extract.manifest.quarantined_share["events"] < 0.001
    assert {q.rule for q in extract.manifest.quarantined} == {"plausible_range"}
