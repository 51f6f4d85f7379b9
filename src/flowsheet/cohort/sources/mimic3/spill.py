"""Rows set down by groups of stays, so that a table of any size is read once and given back stay by stay."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flowsheet.home import held, home

_HELD = 1_500_000  # rows of one kind in memory before they are set down


class Spill:
    """Frames with a ``stay_id``, by kind and group; group g holds the stays in [bounds[g], bounds[g + 1]).

    What fits stays in memory; the rest lies in ``folder``, which is made when it is first needed.
    """

    def __init__(self, folder: Path, bounds: NDArray[np.int64]) -> None:
        self.folder, self.bounds = folder, bounds
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._files: dict[tuple[str, int], list[Path]] = {}

    def add(self, kind: str, rows: pl.DataFrame) -> None:
        """Some more rows; all of one kind have the same columns."""
        held = self._held.setdefault(kind, [])
        held.append(rows)
        if sum(piece.height for piece in held) > _HELD:
            self._set_down(kind)

    def groups(self, kind: str) -> Iterator[pl.DataFrame]:
        """The rows of each group of stays, in the order of the groups, each sorted by nothing in particular."""
        if any(key[0] == kind for key in self._files):
            self._set_down(kind)
        for group in range(len(self.bounds) - 1):
            yield self._take(kind, group)

    def _take(self, kind: str, group: int) -> pl.DataFrame:
        low, high = int(self.bounds[group]), int(self.bounds[group + 1])
        inside = (pl.col("stay_id") >= low) & (pl.col("stay_id") < high)
        pieces = [piece.filter(inside) for piece in self._held.get(kind, [])]
        for file in self._files.pop((kind, group), []):
            pieces.append(pl.read_ipc_stream(file))
            file.unlink()
        return pl.concat(pieces) if pieces else pl.DataFrame()

    def _set_down(self, kind: str) -> None:
        rows = pl.concat(self._held.pop(kind, []))
        self._held[kind] = [rows.clear()]
        of = np.searchsorted(self.bounds, rows["stay_id"].to_numpy(), "right") - 1
        order = np.argsort(of, kind="stable")
        rows, edges = rows[order], np.searchsorted(of[order], np.arange(len(self.bounds)))
        self.folder.mkdir(parents=True, exist_ok=True)
        for group in np.flatnonzero(np.diff(edges)):
            part = rows[int(edges[group]) : int(edges[group + 1])]
            files = self._files.setdefault((kind, int(group)), [])
            files.append(self.folder / f"{kind}-{group}-{len(files)}.arrow")
            part.write_ipc_stream(files[-1], compression="lz4")


@contextmanager
def spill_folder() -> Iterator[Path]:
    """A folder name under ``FLOWSHEET_HOME/spill`` that is gone afterwards; what killed ones left goes first."""
    above = home() / "spill"
    above.mkdir(exist_ok=True)
    for left in above.glob("*.lock"):
        with held(left) as mine:
            if mine:
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
    lock = above / f"{uuid.uuid4().hex}.lock"
    lock.touch()
    with held(lock):
        try:
            yield lock.with_suffix("")
        finally:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
