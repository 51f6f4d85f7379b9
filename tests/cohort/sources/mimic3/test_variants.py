"""Variants of a clean folder: the rows are the same, or it is refused, or the rows are named."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest
from flowsheet.config import CohortConfig, QuarantineConfig
from flowsheet.errors import CheckFailed
from tests.cohort.mimic3_folder import RawTables, make_source, raw_tables, write_tables

Change = Callable[[bytes], bytes]
_IDS = ("subject_id", "hadm_id", "icustay_id", "itemid")
_EVENT_TABLES = ("labevents", "chartevents", "outputevents", "inputevents_cv", "inputevents_mv")


def _ingest(folder: Path, target: Path, max_share: float = 0.02) -> tuple[str, dict[str, int]]:
    """The fingerprint, and the rows that are quarantined, by rule."""
    quarantine = QuarantineConfig(max_share=max_share)
    config = CohortConfig(name="small", source="mimic3", quarantine=quarantine, allow_empty=True)
    manifest = ingest(make_source(folder), config, target, lambda line: None).manifest
    return manifest.fingerprint, {entry.rule: entry.rows for entry in manifest.quarantined}


@pytest.fixture(scope="module")
def fingerprint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(folder / "home"))
        write_tables(folder / "tables", raw_tables(), suffix="csv")
        return _ingest(folder / "tables", folder / "extract")[0]


def _write(folder: Path, change: Callable[[RawTables], RawTables]) -> Path:
    return write_tables(folder / "tables", change(raw_tables()), suffix="csv")


def _edit_ids(
    names: Iterable[str], edit: Callable[[pl.Expr], pl.Expr]
) -> Callable[[RawTables], RawTables]:
    def change(tables: RawTables) -> RawTables:
        for name in names:
            present = [column for column in _IDS if column in tables[name].columns]
            edited = [edit(pl.col(column)).alias(column) for column in present]
            tables[name] = tables[name].with_columns(edited)
        return tables

    return change


def _edit_times(edit: Callable[[pl.Expr], pl.Expr]) -> Callable[[RawTables], RawTables]:
    def change(tables: RawTables) -> RawTables:
        for name, table in tables.items():
            times = [c for c in table.columns if c.endswith("time") or c == "dob"]
            edited = [edit(pl.col(column)).alias(column) for column in times]
            tables[name] = table.with_columns(edited)
        return tables

    return change


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + ".0",
        lambda text: pl.lit(" ") + text,
        lambda text: pl.lit("000") + text,
        lambda text: text + " ",
        lambda text: text.fill_null("NULL"),
    ],
    ids=["float", "space", "zeros", "space behind", "NULL"],
)
def test_ids_of_any_writing_are_read_in_every_column(
    fingerprint: str, tmp_path: Path, edit: Callable[[pl.Expr], pl.Expr]
) -> None:
    folder = _write(tmp_path, _edit_ids(_EVENT_TABLES, edit))
    assert _ingest(folder, tmp_path / "extract") == (fingerprint, {})


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.str.replace(" ", "T"),
        lambda text: text + ".000",
        lambda text: text.str.strip_suffix(":00"),
    ],
    ids=["T", "fraction", "without seconds"],
)
def test_times_of_any_writing_are_read_in_every_table(
    fingerprint: str, tmp_path: Path, edit: Callable[[pl.Expr], pl.Expr]
) -> None:
    folder = _write(tmp_path, _edit_times(edit))
    assert _ingest(folder, tmp_path / "extract") == (fingerprint, {})


@pytest.mark.parametrize("suffix", ["Z", "+00:00", " UTC"])
def test_times_with_a_zone_are_refused_with_the_form_that_is_read(
    tmp_path: Path, suffix: str
) -> None:
    folder = _write(tmp_path, _edit_times(lambda text: text + suffix))
    with pytest.raises(CheckFailed, match="YYYY-MM-DD HH:MM:SS"):
        _ingest(folder, tmp_path / "extract")


def test_a_table_whose_ids_are_unreadable_is_refused_with_its_share_of_rows(
    tmp_path: Path,
) -> None:
    folder = _write(tmp_path, _edit_ids(["labevents"], lambda text: pl.lit("L") + text))
    with pytest.raises(CheckFailed, match=r"100\.0% of labevents") as refused:
        _ingest(folder, tmp_path / "extract", max_share=0.9)
    assert "LABEVENTS.csv row 1 (line 2)" in str(refused.value)
    n_rows = raw_tables()["labevents"].height
    assert f"{n_rows:>9,}  labevents: id" in str(refused.value)


@pytest.mark.parametrize(
    ("table", "column", "suffix"),
    [
        ("labevents", "value", "csv"),
        ("labevents", "valueuom", "csv.gz"),
        ("chartevents", "value", "csv.gz"),
        ("prescriptions", "drug", "csv"),
        ("microbiologyevents", "spec_type_desc", "csv"),
        ("admissions", "admission_type", "csv"),
        ("icustays", "first_careunit", "csv.gz"),
        ("inputevents_mv", "amountuom", "csv"),
    ],
)
def test_a_byte_that_is_not_utf8_costs_its_row_which_is_named(
    tmp_path: Path, table: str, column: str, suffix: str
) -> None:
    tables = raw_tables()
    is_first = pl.int_range(pl.len()) == 0
    marked = pl.when(is_first).then(pl.lit("@g/mL")).otherwise(column).alias(column)
    tables[table] = tables[table].with_columns(marked)
    folder = write_tables(tmp_path / "tables", tables, suffix=suffix)
    file = folder / f"{table.upper()}.{suffix}"
    is_gzip = suffix == "csv.gz"
    text = gzip.decompress(file.read_bytes()) if is_gzip else file.read_bytes()
    text = text.replace(b"@", "µ".encode("latin-1"))
    file.write_bytes(gzip.compress(text) if is_gzip else text)
    _, quarantined = _ingest(folder, tmp_path / "extract", max_share=1.0)
    assert quarantined["encoding"] == 1
    rows = pl.read_parquet(tmp_path / "extract" / "quarantine.parquet").filter(rule="encoding")
    assert rows["key"][0] == f"{table.upper()}.{suffix} row 1 (line 2)"


def test_a_flipped_byte_of_a_gzip_file_is_refused_or_read(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", raw_tables())
    file = folder / "LABEVENTS.csv.gz"
    original = file.read_bytes()
    for position in range(0, len(original), max(1, len(original) // 25)):
        damaged = bytearray(original)
        damaged[position] ^= 0x55
        file.write_bytes(damaged)
        with suppress(CheckFailed):
            _ingest(folder, tmp_path / "extract", max_share=0.9)


def test_lines_that_end_with_carriage_returns_alone_are_refused(tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", raw_tables(), suffix="csv")
    file = folder / "LABEVENTS.csv"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r"))
    with pytest.raises(CheckFailed, match="carriage returns"):
        _ingest(folder, tmp_path / "extract")


def test_a_table_in_numbered_files_or_in_a_folder_is_read(fingerprint: str, tmp_path: Path) -> None:
    folder = write_tables(tmp_path / "tables", raw_tables(), suffix="csv")
    header, *lines = (folder / "CHARTEVENTS.csv").read_bytes().splitlines(keepends=True)
    (folder / "CHARTEVENTS.csv").unlink()
    for part in range(3):
        (folder / f"CHARTEVENTS_{part + 1}.csv").write_bytes(header + b"".join(lines[part::3]))
    (folder / "LABEVENTS.csv").unlink()
    parts = tmp_path / "elsewhere"
    parts.mkdir()
    (folder / "LABEVENTS.parquet").symlink_to(parts)
    labs = raw_tables()["labevents"]
    labs[:2].write_parquet(parts / "part-0.parquet")
    labs[2:].write_parquet(parts / "part-1.parquet")
    (parts / "._part-0.parquet").write_bytes(b"no parquet")
    (parts / "_SUCCESS").touch()
    (folder / "._LABEVENTS.csv").write_bytes(b"no table")
    assert _ingest(folder, tmp_path / "extract")[0] == fingerprint
    (folder / "CHARTEVENTS_2.csv").unlink()
    with pytest.raises(CheckFailed, match="part 2 of a table in numbered files is missing"):
        _ingest(folder, tmp_path / "other")


def test_types_of_parquet_columns_are_checked_before_anything_is_read(
    fingerprint: str, tmp_path: Path
) -> None:
    folder = write_tables(tmp_path / "tables", raw_tables(), suffix="parquet")
    file = folder / "CHARTEVENTS.parquet"
    charted = pl.read_parquet(file)
    other_types = charted.with_columns(
        pl.col("VALUE").cast(pl.Categorical),
        pl.col("ERROR") == 1,
        pl.col("CHARTTIME").dt.cast_time_unit("ns"),
    )
    other_types.write_parquet(file)
    assert _ingest(folder, tmp_path / "extract")[0] == fingerprint
    for column in (
        pl.col("CHARTTIME").dt.replace_time_zone("UTC"),
        pl.col("CHARTTIME").dt.epoch("s"),
        pl.col("CHARTTIME").dt.date(),
        pl.lit(True).alias("ITEMID"),
    ):
        charted.with_columns(column).write_parquet(file)
        with pytest.raises(CheckFailed, match="the column '") as refused:
            _ingest(folder, tmp_path / "other")
        assert "CHARTEVENTS.parquet" in str(refused.value)


@pytest.mark.parametrize(
    ("suffix", "message"), [(" 00:00:00", "CHARTTIME are at midnight"), ("", "chartevents: date")]
)
def test_a_table_with_dates_instead_of_times_is_refused(
    tmp_path: Path, suffix: str, message: str
) -> None:
    def cut_off(tables: RawTables) -> RawTables:
        day = pl.col("charttime").str.head(10)
        charted = tables["chartevents"].with_columns(pl.format(f"{{}}{suffix}", day))
        return tables | {"chartevents": pl.concat([charted] * 10)}

    with pytest.raises(CheckFailed, match=message):
        _ingest(_write(tmp_path, cut_off), tmp_path / "extract")


def test_a_single_date_in_place_of_a_time_is_set_aside(tmp_path: Path) -> None:
    def cut_off(tables: RawTables) -> RawTables:
        is_first = pl.int_range(pl.len()) == 0
        time = pl.when(is_first).then(pl.col("charttime").str.head(10)).otherwise("charttime")
        return tables | {"labevents": tables["labevents"].with_columns(charttime=time)}

    _ingest(_write(tmp_path, cut_off), tmp_path / "extract", max_share=0.5)
    quarantined = pl.read_parquet(tmp_path / "extract" / "quarantine.parquet")
    (row,) = quarantined.filter(rule="date").to_dicts()
    assert (row["key"], row["column"]) == ("LABEVENTS.csv row 1 (line 2)", "charttime")
    assert len(row["value"]) == len("2150-01-01")


@pytest.mark.parametrize(
    "names",
    [
        ("labevents",),
        ("chartevents",),
        ("outputevents",),
        ("prescriptions",),
        ("microbiologyevents",),
        ("inputevents_cv", "inputevents_mv"),
    ],
)
def test_a_needed_table_without_rows_is_refused_or_leaves_a_warning(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    tables = raw_tables()
    for name in names:
        tables[name] = tables[name].clear()
    source = make_source(write_tables(tmp_path / "tables", tables, suffix="csv"))
    lines: list[str] = []
    quarantine = QuarantineConfig(max_share=0.5)
    config = CohortConfig(name="small", source="mimic3", quarantine=quarantine)
    with pytest.raises(CheckFailed, match=names[0].upper()):
        ingest(source, config, tmp_path / "extract", lines.append)
    assert not (tmp_path / "extract").exists()
    if names != ("chartevents",):  # without it no stay has a measurement
        config = config.model_copy(update={"allow_empty": True})
        warnings = ingest(source, config, tmp_path / "extract", lines.append).manifest.warnings
        assert any(names[0].upper() in warning for warning in warnings)
        assert f"warning: {warnings[0]}" in lines


def test_an_organ_that_is_never_measured_is_named(tmp_path: Path) -> None:
    tables = raw_tables()
    labs = tables["labevents"]
    tables["labevents"] = labs.filter(pl.col("itemid") != "50885")
    source = make_source(write_tables(tmp_path / "tables", tables, suffix="csv"))
    config = CohortConfig(name="small", source="mimic3")
    with pytest.raises(CheckFailed, match="no stay has a value of bili"):
        ingest(source, config, tmp_path / "extract", lambda line: None)


def test_a_row_with_too_many_fields_and_bytes_of_another_encoding_is_set_aside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_tables(tmp_path / "tables", raw_tables(), suffix="csv")
    file = folder / "LABEVENTS.csv"
    lines = file.read_bytes().split(b"\n")
    lines[1:1] = [lines[1] + b",\xb5", lines[1].replace(b",", b"\xb5,", 1)]
    file.write_bytes(b"\n".join(lines))
    _ingest(folder, tmp_path / "extract", max_share=0.5)
    quarantined = pl.read_parquet(tmp_path / "extract" / "quarantine.parquet")
    rows = quarantined.filter(table="labevents").select("key", "rule").sort("key").rows()
    assert rows[0] == ("LABEVENTS.csv row 1 (line 2)", "fields")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("table", ["microbiologyevents", "prescriptions"])
def test_rows_far_from_their_hospital_admission_are_refused(tmp_path: Path, table: str) -> None:
    def shift(tables: RawTables) -> RawTables:
        is_time = [name for name in tables[table].columns if name.endswith(("date", "time"))]
        later = pl.col(is_time).str.replace(r"^\d{4}", "2190")
        return tables | {table: tables[table].with_columns(later)}

    with pytest.raises(CheckFailed, match=f"{table}: outside_admission"):
        _ingest(_write(tmp_path, shift), tmp_path / "extract")


def test_columns_that_can_be_done_without_leave_a_warning(tmp_path: Path) -> None:
    tables = raw_tables()
    tables["admissions"] = tables["admissions"].drop("deathtime", strict=False)
    folder = write_tables(tmp_path / "tables", tables, suffix="csv")
    _ingest(folder, tmp_path / "extract")
    warnings = Extract.open(tmp_path / "extract").manifest.warnings
    assert "ADMISSIONS.csv has no column DEATHTIME" in warnings


def test_spaces_around_a_text_do_not_matter(tmp_path: Path, fingerprint: str) -> None:
    def pad(tables: RawTables) -> RawTables:
        padded = {
            name: table.with_columns(pl.format(" {}  ", pl.col(column)).alias(column))
            for name, table in tables.items()
            for column in ("valueuom", "amountuom", "drug", "gender", "spec_type_desc")
            if column in table.columns
        }
        return tables | padded

    assert _ingest(_write(tmp_path, pad), tmp_path / "extract") == (fingerprint, {})
