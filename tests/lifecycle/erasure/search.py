"""Search every file of a folder for an id, whatever its format."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl


def find(folder: Path, number: int) -> list[str]:
    """The files below the folder that have the number: in a cell, an array or a text."""
    return [
        str(file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and _has(file, number)
    ]


def _has(file: Path, number: int) -> bool:
    if re.search(rb"(?<!\d)%d(?!\d)" % number, file.read_bytes()):
        return True
    if file.suffix == ".parquet":
        return any(_has_cell(column, number) for column in pl.read_parquet(file, glob=False))
    return file.suffix == ".npy" and bool((np.load(file) == number).any())


def _has_cell(column: pl.Series, number: int) -> bool:
    texts = column.cast(pl.String, strict=False) if not column.dtype.is_nested() else None
    return texts is not None and bool(texts.str.contains(rf"(^|\D){number}(\.0)?(\D|$)").any())
