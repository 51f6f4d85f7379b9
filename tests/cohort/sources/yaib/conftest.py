"""Read YAIB cohorts, change them, and build hourly sequences from them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.ingest import ingest, make_source
from flowsheet.cohort.schema import Tables
from flowsheet.cohort.sources.yaib import Yaib
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.testing import yaib
from flowsheet.windows.build import build_sequences, collect_vocabulary
from flowsheet.windows.sequences import Sequences

HOURLY = TaskConfig.model_validate(
    {"name": "hourly", "step_hours": 1, "horizon": 6, "censor": "keep"}
)


def open_source(path: Path, **options: float) -> Yaib:
    return Yaib(path, Yaib.Options(**options))


def run_ingest(folder: Path, target: Path, max_share: float = 1.0) -> Extract:
    config = yaib.cohort_config(folder, quarantine={"max_share": max_share})
    return ingest(make_source(config), config, target, lambda line: None)


def change_row(frames: yaib.Frames, file: str, row: int, **cells: object) -> yaib.Frames:
    frame = frames[file]
    columns = {}
    for name, value in cells.items():
        values = frame[name].to_list()
        values[row] = value
        columns[name] = pl.Series(values, dtype=frame[name].dtype, strict=False)
    return frames | {file: frame.with_columns(**columns)}


def keep_rows(frames: yaib.Frames, file: str, predicate: pl.Expr) -> yaib.Frames:
    return frames | {file: frames[file].filter(predicate)}


def repeat_row(frames: yaib.Frames, file: str, row: int) -> yaib.Frames:
    return frames | {file: pl.concat([frames[file], frames[file][row]])}


def change_columns(frames: yaib.Frames, file: str, **columns: pl.Expr) -> yaib.Frames:
    return frames | {file: frames[file].with_columns(**columns)}


def drop_column(frames: yaib.Frames, file: str, column: str) -> yaib.Frames:
    return frames | {file: frames[file].drop(column)}


def build_hourly(tables: Tables, variables: tuple[str, ...] = ("hr",)) -> Sequences:
    features = FeaturesConfig(name="f")
    return build_sequences(tables, HOURLY, features, variables, (), collect_vocabulary(tables))
