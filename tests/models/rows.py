"""Rows of stays for tests of batches and networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from flowsheet.models._batching import StayRows


def stay_rows(lengths: list[int], dtype: torch.dtype = torch.float64) -> StayRows:
    """Two inputs: the number of the row, and a random one."""
    rng = np.random.default_rng(0)
    n = sum(lengths)
    x = np.stack([np.arange(n), rng.normal(size=n)], axis=1)
    return StayRows(
        x=torch.from_numpy(x).to(dtype),
        y=torch.from_numpy(rng.integers(0, 2, n)).to(dtype),
        weight=torch.from_numpy(rng.random(n) < 0.7).to(dtype),
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
    )


def scaled_stay_rows(lengths: list[int], dtype: torch.dtype = torch.float64) -> StayRows:
    """The same with inputs of at most 1."""
    rows = stay_rows(lengths)
    return replace(
        rows,
        x=(rows.x / rows.x.max(0).values).to(dtype),
        y=rows.y.to(dtype),
        weight=rows.weight.to(dtype),
    )
