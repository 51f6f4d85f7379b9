"""Rows set down by groups of stays, so that a table of any size is read once and given back stay by stay."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.state.home import home
from flowsheet.state.locks import held

_SORTED = 1_500_000  # rows of one kind that are told apart by group at once
_HELD = min(
    4 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
)  # bytes before all is set down


class Spill:
    """Frames with a ``stay``, by kind and group; group g holds the stays from number g * ``size``
    on.

    What fits stays in memory; the rest lies in ``folder``, which is made when it is first needed.
    """

    def __init__(self, folder: Path, stays: int, size: int) -> None:
        self.folder, self.groups, self.size = folder, -(-stays // size), size
        self._mixed: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._parts: dict[tuple[str, int], list[pl.DataFrame]] = defaultdict(list)
        self._files: dict[tuple[str, int], list[Path]] = defaultdict(list)
        self._held = 0

    def add(self, kind: str, rows: pl.DataFrame) -> None:
        """Some more rows; all of one kind have the same columns."""
        self._mixed[kind].append(rows)
        if sum(piece.height for piece in self._mixed[kind]) > _SORTED:
            self._sort(kind)

    def settle(self) -> int:
        """Tell apart what has been added, so that every group can be taken; the number of groups."""
        for kind in list(self._mixed):
            self._sort(kind)
        return self.groups

    def take(self, kind: str, group: int) -> pl.DataFrame:
        """The rows of a group of stays, sorted by nothing in particular; they are not kept."""
        files = self._files.pop((kind, group), [])
        parts = [*map(pl.read_ipc_stream, files), *self._parts.pop((kind, group), [])]
        for file in files:
            file.unlink()
        return pl.concat(parts) if parts else pl.DataFrame()

    def _sort(self, kind: str) -> None:
        """Tell what is held of a kind apart by group."""
        if not (pieces := self._mixed.pop(kind, [])):
            return
        rows = pl.concat(pieces)
        of = (rows["stay"].to_numpy() // self.size).astype(
            np.min_scalar_type(self.groups)
        )  # short: sorted by counting
        order = np.argsort(of, kind="stable")
        edges = np.append(0, np.cumsum(np.bincount(of, minlength=self.groups)))
        rows = rows[order]
        for group in np.flatnonzero(np.diff(edges)).tolist():
            self._parts[kind, group].append(rows[int(edges[group]) : int(edges[group + 1])])
        self._held += int(rows.estimated_size())
        if self._held > _HELD:
            self._set_down()

    def _set_down(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for (kind, group), parts in self._parts.items():
            files = self._files[kind, group]
            files.append(self.folder / f"{kind}-{group}-{len(files)}.arrow")
            pl.concat(parts).write_ipc_stream(files[-1], compression="lz4")
        self._parts.clear()
        self._held = 0


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
