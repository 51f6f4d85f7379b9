"""A table is parsed block by block; a block with a wrong cell is parsed as text."""

import gzip
import shutil
from pathlib import Path

import polars as pl
import pytest

from flowsheet.cohort.engine import csv_reader, table_reader
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.raw_export.options import ExportOptions
from flowsheet.raw_export.write import write_raw_records

HEART_RATE_ITEMS = (b"211", b"220045")


@pytest.fixture(scope="module")
def simulated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw tables of a few simulated stays; only to be read."""
    folder = tmp_path_factory.mktemp("simulated") / "raw"
    ward = WardOptions(stays=4, seed=2, min_steps=1, max_steps=3)
    options = ExportOptions(unmapped_items=0.3, truth=False, newborns=0.0)
    write_raw_records("mimic3", ward, options, folder, lambda line: None)
    return folder


@pytest.fixture(scope="module")
def expected(simulated_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Extract:
    """The extract of the raw tables as they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWSHEET_HOME", str(tmp_path_factory.mktemp("home")))
        return ingest_folder(simulated_folder, tmp_path_factory.mktemp("extract") / "expected")


@pytest.fixture
def folder(simulated_folder: Path, tmp_path: Path) -> Path:
    """A copy of the raw tables, of which a test may change a file."""
    return Path(shutil.copytree(simulated_folder, tmp_path / "raw"))


def ingest_folder(folder: Path, target: Path) -> Extract:
    config = compose_cohort("mimic3", [f"cohort.path={folder}", "cohort.options.min_hours=0"])
    return ingest(make_source(config), config, target, lambda line: None)


def read_events(extract: Extract) -> pl.DataFrame:
    return pl.read_parquet(extract.path / "events.parquet")


def change_cell(folder: Path, column: int, cell: bytes) -> None:
    """Change a cell of a heart rate's row in the middle of CHARTEVENTS."""
    file = folder / "CHARTEVENTS.csv.gz"
    lines = gzip.decompress(file.read_bytes()).split(b"\n")
    middle = next(
        i for i in range(len(lines) // 2, len(lines)) if lines[i].split(b",")[4] in HEART_RATE_ITEMS
    )
    cells = lines[middle].split(b",")
    cells[column] = cell
    lines[middle] = b",".join(cells)
    file.write_bytes(gzip.compress(b"\n".join(lines), 1))


def test_small_blocks_give_the_same_extract(
    expected: Extract, simulated_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr(table_reader, "_FRAME_ROWS", 500)
    extract = ingest_folder(simulated_folder, tmp_path / "extract")
    assert extract.manifest.fingerprint == expected.manifest.fingerprint


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        (3, b"27x", "id"),
        (4, b"HR", "id"),
        (4, b"-7", "id"),
        (5, b"yesterday", "date"),
        (9, b"eighty", "number"),
    ],
)
def test_a_wrong_cell_costs_its_row_and_no_other(
    expected: Extract,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    column: int,
    cell: bytes,
    rule: str,
) -> None:
    monkeypatch.setattr(csv_reader, "_BLOCK_BYTES", 1 << 14)
    change_cell(folder, column, cell)
    extract = ingest_folder(folder, tmp_path / "extract")
    before = read_events(expected)
    after = read_events(extract)
    lost = before.join(after, on=["stay_id", "time", "variable"], how="anti")
    assert lost.height == 1
    assert after.join(before, on=before.columns, how="anti").is_empty()
    quarantined = {entry.rule: entry.rows for entry in extract.manifest.quarantined}
    assert quarantined == {rule: 1}


def test_ids_written_with_a_decimal_point_are_read(
    expected: Extract, folder: Path, tmp_path: Path
) -> None:
    file = folder / "CHARTEVENTS.csv.gz"
    table = pl.read_csv(file, infer_schema=False)
    file.unlink()
    table.with_columns(pl.col("ICUSTAY_ID") + ".0").write_csv(folder / "CHARTEVENTS.csv")
    extract = ingest_folder(folder, tmp_path / "extract")
    assert extract.manifest.fingerprint == expected.manifest.fingerprint
