"""Notice columns of times of which only the dates were exported."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.engine.cells import TIME_HINT, CellKind
from flowsheet.cohort.engine.files import RawTable
from flowsheet.errors import CheckFailed

_MIN_TIMES = 50
"""Of so many times or more, not all are at midnight."""
_DAY = 86_400_000_000


class MidnightCheck:
    """Notices columns with times that are all at midnight: only the dates were exported."""

    def __init__(self, table: RawTable) -> None:
        self._table = table
        kinds = table.kinds.items()
        self._n_times = {column: 0 for column, kind in kinds if kind is CellKind.time}

    def add(self, rows: pl.DataFrame) -> None:
        """Look at more rows."""
        for column in list(self._n_times):
            times = rows[column].drop_nulls().to_physical()
            if (times % _DAY != 0).any():
                del self._n_times[column]  # it has times of day
            else:
                self._n_times[column] += len(times)

    def finish(self) -> None:
        """Raise ``CheckFailed`` if all times of a column were at midnight."""
        for column, n in self._n_times.items():
            if n >= _MIN_TIMES:
                raise CheckFailed(
                    f"all {n:,} times in {self._table.spec.names[column].upper()} are at midnight: "
                    "they are dates only",
                    where=str(self._table.files[0].path),
                    todo=f"export the table with the time of day; {TIME_HINT}",
                )
