"""Damaged files are quarantined alone; harmless variants of the format are accepted."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.sources.physionet2019 import COLUMNS
from flowsheet.errors import CheckFailed
from flowsheet.testing import psv
from tests.cohort.sources.physionet2019.conftest import (
    list_names,
    open_source,
    run_ingest,
    set_cell,
    write_zip,
)


def make_rows() -> psv.Rows:
    return psv.patient_rows(9)


def change_cell(column: str, value: str, row: int = 4) -> psv.Rows:
    return set_cell(make_rows(), row, column, value)


def change_column(column: str, value: str) -> psv.Rows:
    rows = make_rows()
    for row in range(len(rows)):
        set_cell(rows, row, column, value)
    return rows


def drop_column(column: str) -> str:
    i = COLUMNS.index(column)
    rows = [row[:i] + row[i + 1 :] for row in make_rows()]
    return psv.format_psv(rows, COLUMNS[:i] + COLUMNS[i + 1 :])


def add_column(column: str) -> str:
    return psv.format_psv([[*row, "1"] for row in make_rows()], [*COLUMNS, column])


def add_field(row: int) -> str:
    rows = make_rows()
    rows[row].append("1")
    return psv.format_psv(rows)


def move_field() -> str:
    """The first row has a field too few and the second one too many."""
    rows = make_rows()
    rows[1].append(rows[0].pop())
    return psv.format_psv(rows)


def swap_rows() -> psv.Rows:
    rows = make_rows()
    rows[3], rows[4] = rows[4], rows[3]
    return rows


VALID = psv.format_psv(make_rows())
DAMAGED: dict[str, tuple[psv.Rows | str | bytes, str, str]] = {
    "empty": ("", "no_rows", ""),
    "only a header": (psv.format_psv([]), "no_rows", ""),
    "missing column": (drop_column("EtCO2"), "columns", ""),
    "extra column": (add_column("Mood"), "columns", ""),
    "repeated column": (add_column("HR"), "columns", ""),
    "not a psv": ("hello\nworld\n", "columns", ""),
    "too few fields": (
        psv.format_psv([*make_rows()[:4], ["1", "2"]]),
        "fields",
        "row 5 (line 6)",
    ),
    "too many fields": (add_field(row=0), "fields", "row 1 (line 2)"),
    "moved field": (move_field(), "fields", "row 1 (line 2)"),
    "blank line between rows": (VALID.replace("\n", "\n\n", 3), "fields", "row 1 (line 2)"),
    "truncated": (VALID[:-20], "fields", "row 12 (line 13)"),
    "not UTF-8": (VALID.encode().replace(b"NaN", b"\xff\xfe", 1), "encoding", "row 1 (line 2)"),
    "age is a text": (change_cell("Age", "old"), "number", "row 5 (line 6)"),
    "age is infinite": (change_column("Age", "inf"), "number", "row 1 (line 2)"),
    "hour is NaN": (change_cell("ICULOS", "NaN"), "hour_number", "row 5 (line 6)"),
    "hour is a fraction": (change_cell("ICULOS", "5.5"), "hour_number", "row 5 (line 6)"),
    "hour is zero": (change_cell("ICULOS", "0", row=0), "hour_number", "row 1 (line 2)"),
    "hour is infinite": (change_cell("ICULOS", "inf"), "hour_number", "row 5 (line 6)"),
    "hour is too large": (change_cell("ICULOS", "1e300"), "hour_number", "row 5 (line 6)"),
    "hour is a text": (change_cell("ICULOS", "five"), "number", "row 5 (line 6)"),
    "hour is repeated": (change_cell("ICULOS", "4"), "duplicate_hour", "row 5 (line 6)"),
    "hours are swapped": (swap_rows(), "missing_hour", "row 4 (line 5)"),
    "hours are reversed": (make_rows()[::-1], "hour_backwards", "row 2 (line 3)"),
    "hours are missing": (
        [*make_rows()[:3], *make_rows()[5:]],
        "missing_hour",
        "row 4 (line 5)",
    ),
    "label is 2": (change_cell("SepsisLabel", "2"), "label", "row 5 (line 6)"),
    "label is NaN": (change_cell("SepsisLabel", "NaN"), "label", "row 5 (line 6)"),
    "label returns": (change_cell("SepsisLabel", "1"), "label_returns", "row 6 (line 7)"),
    "age changes": (change_cell("Age", "64"), "fixed_value", "row 5 (line 6)"),
    "sex changes": (change_cell("Gender", "0"), "fixed_value", "row 5 (line 6)"),
    "sex is 3": (change_column("Gender", "3"), "flag", "row 1 (line 2)"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_and_quarantined_alone(tmp_path: Path, case: str):
    content, rule, row = DAMAGED[case]
    raw = psv.write_patients(tmp_path / "raw")
    psv.write_patient(raw, 9, content)
    extract = run_ingest(raw, tmp_path / "out")
    (defect,) = pl.read_parquet(extract.path / "quarantine.parquet").to_dicts()
    assert (defect["table"], defect["rule"]) == ("stays", rule)
    assert defect["key"] == f"p000009.psv {row}".strip()
    assert extract.tables().stays["stay_id"].to_list() == [1, 2, 3, 4]
    assert dict(extract.manifest.attrition)["patients' files"] == 5
    quarantined = [(entry.rule, entry.rows) for entry in extract.manifest.quarantined]
    assert quarantined == [(rule, 1)]


@pytest.mark.parametrize("case", DAMAGED)
def test_too_large_a_share_of_damaged_files_is_refused_with_file_row_and_rule(
    tmp_path: Path, case: str
):
    content, rule, row = DAMAGED[case]
    raw = psv.write_patients(tmp_path / "raw")
    before = run_ingest(raw, tmp_path / "out")
    psv.write_patient(raw, 9, content)
    with pytest.raises(CheckFailed) as error:
        run_ingest(raw, tmp_path / "out", max_share=0.1)
    message = str(error.value)
    assert all(part in message for part in ("p000009.psv", row, rule))
    assert Extract.open(tmp_path / "out", verify=True).fingerprint == before.fingerprint
    assert list_names(tmp_path) == ["out", "raw"]


VARIANTS = {
    "crlf": VALID.replace("\n", "\r\n"),
    "no last newline": VALID.rstrip("\n"),
    "blank lines at the end": VALID + "\n\n",
    "byte order mark": b"\xef\xbb\xbf" + VALID.encode(),
    "empty fields": VALID.replace("NaN", ""),
    "lower-case nan": VALID.replace("NaN", "nan"),
    "another order of the columns": psv.format_psv(
        [row[::-1] for row in make_rows()], COLUMNS[::-1]
    ),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_harmless_variants_of_the_format_are_accepted(tmp_path: Path, case: str):
    fingerprints = []
    for name, content in (("valid", VALID), ("variant", VARIANTS[case])):
        raw = psv.write_patients(tmp_path / name)
        psv.write_patient(raw, 9, content)
        fingerprints.append(run_ingest(raw, tmp_path / f"{name}-out").fingerprint)
    assert fingerprints[0] == fingerprints[1]


def test_a_cohort_of_only_damaged_files_is_refused(tmp_path: Path):
    psv.write_patient(tmp_path / "raw", 1, "")
    with pytest.raises(CheckFailed, match="no stay is left"):
        run_ingest(tmp_path / "raw", tmp_path / "out")


def test_a_damaged_member_of_a_zip_is_quarantined(tmp_path: Path):
    raw = psv.write_patients(tmp_path / "raw")
    path = write_zip(raw, list_names(raw))
    data = bytearray(path.read_bytes())
    data[data.index(b"0.4") + 1] ^= 1
    path.write_bytes(bytes(data))
    quarantined = run_ingest(path, tmp_path / "out").manifest.quarantined
    assert [(entry.rule, entry.rows) for entry in quarantined] == [("unreadable_file", 1)]


def write_unreadable(folder: Path, case: str) -> Path:
    valid = write_zip(psv.write_patients(folder / "raw"), ["p000001.psv"])
    path = folder / "records.zip"
    if case == "empty folder":
        path.mkdir()
    elif case == "truncated":
        path.write_bytes(valid.read_bytes()[:-100])
    elif case == "text":
        path.write_text("this is no archive", encoding="utf-8")
    elif case == "empty file":
        path.write_bytes(b"")
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "no patients here")
    return path


@pytest.mark.parametrize(
    "case", ["empty folder", "truncated", "text", "empty file", "zip without psv"]
)
def test_the_error_for_unreadable_records_names_their_path(tmp_path: Path, case: str):
    path = write_unreadable(tmp_path, case)
    with pytest.raises(CheckFailed) as error:
        open_source(path).fingerprint()
    assert str(path) in str(error.value)
    with pytest.raises(CheckFailed):
        run_ingest(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_capital_suffixes_and_droppings_do_not_matter(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in (1, 2):
        psv.write_patient(folder, number, make_rows())
    clean = run_ingest(folder, tmp_path / "clean")
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    (folder / "training").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "p000001.psv").rename(tmp_path / "elsewhere" / "P000001.PSV")
    (folder / "._p000001.psv").write_bytes(b"dropping")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "p000009.psv").write_bytes(b"dropping")
    assert run_ingest(folder, tmp_path / "other").fingerprint == clean.fingerprint


def test_gzipped_files_are_read_and_other_files_of_patients_leave_a_warning(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in (1, 2):
        psv.write_patient(folder, number, make_rows())
    clean = run_ingest(folder, tmp_path / "clean")
    file = folder / "p000001.psv"
    (folder / "p000001.psv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    (folder / "p000003.csv").write_bytes(b"HR")
    (folder / "README.txt").write_bytes(b"the challenge")
    other = run_ingest(folder, tmp_path / "other")
    assert other.fingerprint == clean.fingerprint
    unread = "1 files are no psv files and are not read, such as p000003.csv"
    assert unread in other.manifest.warnings
    (folder / "p000001.psv.gz").write_bytes(b"\x1f\x8b no gzip")
    (entry,) = run_ingest(folder, tmp_path / "damaged").manifest.quarantined
    assert (entry.rule, entry.rows) == ("unreadable_file", 1)


def test_a_member_of_a_zip_that_unpacks_to_too_much_is_set_aside_unread(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    psv.write_patient(folder, 1, make_rows())
    (folder / "p000002.psv").write_bytes(bytes(40_000_000))
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as members:
        for name in list_names(folder):
            members.write(folder / name)
    extract = run_ingest(archive, tmp_path / "extract")
    (entry,) = extract.manifest.quarantined
    assert (entry.rule, entry.rows) == ("file_size", 1)
    assert extract.manifest.counts["stays"] == 1
