"""Rows of subjects in tables, arrays and splits: counted, and removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.lifecycle.experiment.predictions import PREDICTIONS_TABLE
from flowsheet.lifecycle.experiment.stage import update_checksums
from flowsheet.state.json_files import read_json, write_json
from flowsheet.state.publish import publish_file, sweep_parts
from flowsheet.windows.split import PARTS

_SPLITS = ("fold-*.json", "final_refit.json")


@dataclass(frozen=True)
class Ids:
    """The subjects to erase, and their stays as far as they are known."""

    subjects: frozenset[int]
    stays: frozenset[int]

    def mask(self, columns: list[str]) -> pl.Expr | None:
        """Which rows of a table are theirs; None for a table without ids.

        A row with both ids is searched for the subject only: another source may use the number of
        one of their stays for somebody else's.
        """
        of_subject = pl.col("subject_id").is_in(sorted(self.subjects)).fill_null(value=False)
        of_stay = pl.col("stay_id").is_in(sorted(self.stays)).fill_null(value=False)
        if {"subject_id", "stay_id"} <= set(columns):
            return of_subject | (pl.col("subject_id").is_null() & of_stay)
        if "subject_id" in columns:
            return of_subject
        return of_stay if "stay_id" in columns else None


def count_rows(folder: Path, ids: Ids) -> int:
    """Rows, stays of arrays and entries of splits in a folder that are these subjects'."""
    rows = sum(_count_table(file, ids) for file in _tables(folder))
    rows += sum(_count_array(file, ids.subjects) for file in folder.rglob("subject_id.npy"))
    rows += sum(_count_split(file, ids.subjects) for file in _splits(folder))
    return rows + (1 if _shows_example(folder, ids) else 0)


def find_ids(folder: Path, ids: Ids) -> Ids:
    """Which of these subjects a folder has, and which stays of theirs."""
    subjects: set[int] = set()
    stays: set[int] = set()
    for file in _tables(folder):
        table = pl.scan_parquet(file, glob=False)
        columns = table.collect_schema().names()
        if "subject_id" in columns and (mask := ids.mask(columns)) is not None:
            rows = table.filter(mask).select({"subject_id", "stay_id"} & set(columns)).collect()
            subjects.update(rows["subject_id"].drop_nulls())
            stays.update(rows["stay_id"].drop_nulls() if "stay_id" in columns else ())
    for file in folder.rglob("subject_id.npy"):
        subject_of_stay = np.load(file, allow_pickle=False)
        is_theirs = np.isin(subject_of_stay, sorted(ids.subjects))
        subjects.update(subject_of_stay[is_theirs].tolist())
        stays.update(np.load(file.with_name("stay_id.npy"), allow_pickle=False)[is_theirs].tolist())
    return Ids(frozenset(subjects), frozenset(stays))


def remove_rows(folder: Path, ids: Ids) -> list[Path]:
    """Remove these subjects' rows from the tables of a folder; returns the files that changed.

    Checksums in ``stage.json`` follow. Interrupted, it may be called again.
    """
    shown = sorted(folder.rglob(PREDICTIONS_TABLE))
    changed = [file for file in shown if _rewrite_shown_table(file, ids)]
    changed += [file for file in _tables(folder) if _rewrite_table(file, ids)]
    if _shows_example(folder, ids):
        _remove_example(folder)
    for metadata in sorted(folder.rglob("stage.json")):
        tables = [file for file in _tables(metadata.parent) if _has_ids(file)]
        if update_checksums(metadata.parent, tables):
            changed.append(metadata)
    return changed


def are_held_out(folder: Path, ids: Ids) -> bool:
    """Whether none of the subjects was trained on, by the artifacts of a run.

    With a single fold, the subjects with held-out rows are the test part. With several, every model
    but the one of a fold is trained on them.
    """
    file, folds = folder / "evidence/predictions.parquet", folder / "evidence/folds.json"
    if not file.is_file() or not folds.is_file() or len(read_json(folds)) > 1:
        return False
    held_out = pl.scan_parquet(file, glob=False).select(pl.col("subject_id").unique()).collect()
    return ids.subjects <= set(held_out["subject_id"])


def _tables(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for file in sorted(folder.rglob("*.parquet")):
        sweep_parts(file.parent, file.name)
        if not file.name.startswith("."):
            yield file


def _has_ids(file: Path) -> bool:
    columns = pl.scan_parquet(file, glob=False).collect_schema().names()
    return not {"subject_id", "stay_id"}.isdisjoint(columns)


def _splits(folder: Path) -> Iterator[Path]:
    for pattern in _SPLITS:
        yield from sorted(folder.glob(pattern))


def _count_table(file: Path, ids: Ids) -> int:
    table = pl.scan_parquet(file, glob=False)
    mask = ids.mask(table.collect_schema().names())
    return 0 if mask is None else int(table.filter(mask).select(pl.len()).collect().item())


def _count_array(file: Path, subjects: frozenset[int]) -> int:
    return int(np.isin(np.load(file, allow_pickle=False), sorted(subjects)).sum())


def _count_split(file: Path, subjects: frozenset[int]) -> int:
    content = read_json(file)
    return sum(len(subjects.intersection(content[part])) for part in PARTS)


def _rewrite_table(file: Path, ids: Ids) -> bool:
    if not _count_table(file, ids):
        return False
    rows = pl.read_parquet(file, glob=False)
    mask = ids.mask(rows.columns)
    assert mask is not None
    with publish_file(file) as part:
        rows.filter(~mask).write_parquet(part)
    return True


def _rewrite_shown_table(file: Path, ids: Ids) -> bool:
    """Remove rows from a table for MLflow's page; its subjects are among those of a Parquet."""
    table = read_json(file)
    subject = table["columns"].index("subject_id")
    rows = [row for row in table["data"] if row[subject] not in ids.subjects]
    if len(rows) == len(table["data"]):
        return False
    write_json(file, {**table, "data": rows})
    return True


def _shows_example(folder: Path, ids: Ids) -> bool:
    """Whether the memory study in a folder shows a stay of theirs step by step."""
    return any(_example_stay(file) in ids.stays for file in folder.rglob("about.json"))


def _example_stay(file: Path) -> int | None:
    example = json.loads(file.read_text(encoding="utf-8")).get("example_stay")
    return int(example["stay_id"]) if example else None


def _remove_example(folder: Path) -> None:
    """Remove a memory study among a run's artifacts, and the report with its figures."""
    for file in sorted(folder.glob("report/report.html")):
        file.unlink()
    if (folder / "memory").is_dir():
        shutil.rmtree(folder / "memory")
