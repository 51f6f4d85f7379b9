"""Signs that shards of a MEDS data set are absent: its metadata know more than its shards have."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import polars as pl

from flowsheet.cohort.parquet import report_unreadable
from flowsheet.cohort.sources.meds.shards import Shards

_NAMED = 5
"""How many subjects or codes a warning names."""


def find_missing_shards(shards: Shards, codes: pl.DataFrame) -> list[str]:
    """Warnings of subjects, codes and numbers of shards that are in no shard.

    Args:
        shards: the data set.
        codes: (code, rows) of its rows.

    Raises:
        CheckFailed: a file of the metadata is unreadable.
    """
    if shards.database is not None:  # the metadata are of all databases
        return []
    warnings = [_find_subjects(shards), _find_codes(shards.root, codes), _find_numbers(shards)]
    return [warning for warning in warnings if warning]


def _find_subjects(shards: Shards) -> str:
    splits = _read_column(shards.root / "metadata" / "subject_splits.parquet", "subject_id")
    if splits is None:
        return ""
    present = shards.count_shards_of_subjects()["subject_id"].cast(pl.String)
    absent = splits.filter(~splits.is_in(present.implode()))
    if absent.is_empty():
        return ""
    return (
        f"SHARDS MAY BE MISSING: {len(absent):,} of the {len(splits):,} subjects in "
        f"metadata/subject_splits.parquet have no row, such as {_list(absent)}"
    )


def _find_codes(root: Path, codes: pl.DataFrame) -> str:
    listed = _read_column(root / "metadata" / "codes.parquet", "code")
    if listed is None:
        return ""
    absent = listed.filter(~listed.is_in(codes["code"].unique().implode()))
    if absent.is_empty():
        return ""
    return (
        f"shards may be missing: {len(absent):,} of the {len(listed):,} codes in "
        f"metadata/codes.parquet have no row, such as {_list(absent)}"
    )


def _find_numbers(shards: Shards) -> str:
    """Gaps in the numbers of the shards of a folder."""
    numbers = defaultdict(set)
    for file in shards.files:
        if file.path.stem.isdecimal():
            numbers[file.path.parent.relative_to(shards.root)].add(int(file.path.stem))
    absent = [
        f"{folder.as_posix()}/{number}.parquet"
        for folder, present in sorted(numbers.items())
        for number in range(min(present), max(present))
        if number not in present
    ]
    if not absent:
        return ""
    return f"SHARDS MAY BE MISSING: there is no {', '.join(absent[:_NAMED])}"


def _read_column(file: Path, column: str) -> pl.Series | None:
    """The distinct values of a column as text, sorted; None without the file or column."""
    if not file.is_file():
        return None
    with report_unreadable(file, "the metadata", "write the data set again, or remove the file"):
        frame = pl.read_parquet(file)
    if column not in frame.columns:
        return None
    return frame[column].drop_nulls().cast(pl.String).unique().sort()


def _list(values: pl.Series) -> str:
    return ", ".join(values.head(_NAMED))
