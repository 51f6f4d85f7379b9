"""A YAIB cohort's three files for tests: sound ones, to be spoilt by the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.config import CohortConfig

Frames = dict[str, pl.DataFrame]
HOUR = 3_600_000
"""Milliseconds."""

ONSET = 8
"""The hour of onset of the second stay."""


def frames(stays: int = 4, hours: int = 12) -> Frames:
    """Stays 11, 12, ... of some hours each; the second becomes septic in hour ``ONSET`` and is
    followed for six more.

    >>> [frame.columns for frame in frames().values()]
    [['stay_id', 'age', 'sex', 'height', 'weight'], ['stay_id', 'time', 'hr', 'temp', 'urine'], ['stay_id', 'time', 'label']]
    """
    ids = np.arange(11, 11 + stays)
    lengths = np.where(ids == 12, ONSET + 7, hours + ids - 11)
    stay = np.repeat(ids, lengths)
    hour = np.concatenate([np.arange(n) for n in lengths])
    rng = np.random.default_rng(1)
    some = rng.random((2, len(stay))) < 0.3
    temp, urine = (
        pl.Series(v).set(pl.Series(~s), None)
        for v, s in zip(_drawn(rng, len(stay)), some, strict=True)
    )
    key = {
        "stay_id": pl.Series(stay, dtype=pl.Int32),
        "time": pl.Series(hour * HOUR).cast(pl.Duration("ms")),
    }
    sta = {
        "stay_id": pl.Series(ids, dtype=pl.Int32),
        "age": 60.0 + np.arange(stays),
        "sex": ["Female" if i % 2 else "Male" for i in ids],
        "height": pl.Series([None, *[170.0] * (stays - 1)]),
        "weight": pl.Series([80.5] * stays),
    }
    return {
        "sta": pl.DataFrame(sta),
        "dyn": pl.DataFrame(
            {
                **key,
                "hr": rng.integers(60, 110, len(stay)).astype(float),
                "temp": temp,
                "urine": urine,
            }
        ),
        "outc": pl.DataFrame({**key, "label": (stay == 12) & (hour >= ONSET - 6)}),
    }


def _drawn(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(36, 39, n).round(1), rng.integers(5, 200, n).astype(float)


def write(folder: Path, cohort: Frames) -> Path:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in cohort.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def config(path: Path, **more: object) -> CohortConfig:
    """A cohort of these files."""
    return CohortConfig.model_validate(
        {"name": "test", "source": "yaib", "path": str(path), **more}
    )
