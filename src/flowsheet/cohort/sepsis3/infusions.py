"""How much infusions have given by each hour, as far as they are in the record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsheet.cohort.sepsis3.hourly_grid import HourlyGrid
from flowsheet.cohort.time_grid import HOUR
from flowsheet.typing import Floats, Ints


@dataclass(frozen=True)
class Infusions:
    """M infusions; times in microseconds since admission, shape (M,) each."""

    stay: Ints
    """The position of the stay."""
    start: Ints
    end: Ints
    counts_from: Ints
    """The first moment whose hour may use the infusion."""
    rate: Floats
    """Amount per microsecond."""

    def given(self, grid: HourlyGrid, lag: int) -> Floats:
        """The amount given before each hour less ``lag`` microseconds, shape (N,).

        Only the infusions count that are in the record at the hour itself.
        """
        begin = np.maximum(self.start + lag, self.counts_from) + grid.admitted[self.stay]
        stop = np.maximum(self.end + lag, self.counts_from) + grid.admitted[self.stay]
        never = np.full(len(self.stay), np.iinfo(np.int64).max // 4)
        running = grid.total(self.stay, begin, stop, self.rate)
        started = grid.total(self.stay, begin, stop, self.rate * self.start)
        amount = self.rate * (self.end - self.start)
        finished = grid.total(self.stay, stop, never, amount)
        moment = grid.hour * HOUR - lag
        return np.asarray(running * moment - started + finished)
