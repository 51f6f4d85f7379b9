"""A table is read block by block, numbers as numbers; a block with a cell that is none is read as text."""

import gzip
import io
import queue
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.sources.mimic3 import reading
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.compose import compose_cohort
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.write import write_mimic3


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    ward = WardOptions(stays=4, seed=2, min_steps=1, max_steps=3)
    write_mimic3(
        ward,
        ExportOptions(unmapped_items=0.3, truth=False, newborns=0.0),
        tmp_path / "raw",
        lambda line: None,
    )
    return tmp_path / "raw"


def ingested(raw: Path, out: Path) -> Extract:
    config = compose_cohort("mimic3", [f"cohort.path={raw}", "cohort.options.min_hours=0"])
    return ingest(make_source(config), config, out, lambda line: None)


def events(extract: Extract) -> pl.DataFrame:
    return pl.read_parquet(extract.path / "events.parquet")


def spoil(raw: Path, column: int, cell: bytes) -> None:
    """Put a cell into a heart rate's row in the middle of the chart."""
    file = raw / "CHARTEVENTS.csv.gz"
    lines = gzip.decompress(file.read_bytes()).split(b"\n")
    middle = next(
        i
        for i in range(len(lines) // 2, len(lines))
        if lines[i].split(b",")[4] in (b"211", b"220045")
    )
    cells = lines[middle].split(b",")
    cells[column] = cell
    lines[middle] = b",".join(cells)
    file.write_bytes(gzip.compress(b"\n".join(lines), 1))


@given(text=st.text(alphabet="ab\n", max_size=60), size=st.integers(1, 20))
def test_blocks_are_the_stream_cut_behind_whole_lines(text: str, size: int) -> None:
    free: queue.Queue[bytearray] = queue.Queue()
    free.put(bytearray(size))
    blocks = []
    for block, whole in reading._blocks(io.BufferedReader(io.BytesIO(text.encode())), free):
        blocks.append(bytes(block[:whole]).decode())
        free.put(block)
    assert "".join(blocks).rstrip("\n") == text.rstrip("\n")
    assert all(block.endswith("\n") for block in blocks[:-1])


def test_small_blocks_give_the_same_extract(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ingested(raw, tmp_path / "whole")
    monkeypatch.setattr(reading, "_BLOCK", 1 << 14)
    monkeypatch.setattr(reading, "_CHUNK", 500)
    assert ingested(raw, tmp_path / "blocks").manifest.fingerprint == whole.manifest.fingerprint


@pytest.mark.parametrize(
    "spoilt",
    [
        (3, b"27x", None),
        (4, b"HR", "itemid"),
        (4, b"-7", "itemid"),
        (5, b"yesterday", "date"),
        (9, b"eighty", "number"),
    ],
)
def test_a_spoilt_cell_costs_its_row_and_no_other(
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoilt: tuple[int, bytes, str | None],
) -> None:
    column, cell, rule = spoilt
    monkeypatch.setattr(reading, "_BLOCK", 1 << 14)
    before = ingested(raw, tmp_path / "before")
    spoil(raw, column, cell)
    after = ingested(raw, tmp_path / "after")
    lost = events(before).join(events(after), on=["stay_id", "time", "variable"], how="anti")
    assert lost.height == (
        1 if rule else 0
    )  # an id that is none is as good as none: the stay is told by the time
    assert events(after).join(events(before), on=events(before).columns, how="anti").is_empty()
    found = {entry.rule: entry.rows for entry in after.manifest.quarantined}
    assert found == ({rule: 1} if rule else {})


def test_ids_written_with_a_decimal_point_are_read(raw: Path, tmp_path: Path) -> None:
    before = ingested(raw, tmp_path / "before")
    file = raw / "CHARTEVENTS.csv.gz"
    table = pl.read_csv(file, infer_schema=False)
    file.unlink()
    table.with_columns(pl.col("ICUSTAY_ID") + ".0").write_csv(raw / "CHARTEVENTS.csv")
    assert ingested(raw, tmp_path / "after").manifest.fingerprint == before.manifest.fingerprint
