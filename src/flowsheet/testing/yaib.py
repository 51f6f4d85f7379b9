"""The three files of a valid YAIB cohort, which a test can then damage."""

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


def make_frames(stays: int = 4, hours: int = 12) -> Frames:
    """The cohort's tables by file name.

    Stays are numbered 11, 12, ...; the second becomes septic in hour ``ONSET`` and is recorded for
    six more hours.

    >>> for name, frame in make_frames().items():
    ...     print(name, frame.columns)
    sta ['stay_id', 'age', 'sex', 'height', 'weight']
    dyn ['stay_id', 'time', 'hr', 'temp', 'urine']
    outc ['stay_id', 'time', 'label']
    """
    ids = np.arange(11, 11 + stays)
    lengths = np.where(ids == 12, ONSET + 7, hours + ids - 11)
    stay = np.repeat(ids, lengths)
    hour = np.concatenate([np.arange(n) for n in lengths])
    rng = np.random.default_rng(1)
    temp_is_charted, urine_is_charted = rng.random((2, len(stay))) < 0.3
    temp = rng.uniform(36, 39, len(stay)).round(1)
    urine = rng.integers(5, 200, len(stay)).astype(float)
    hr = rng.integers(60, 110, len(stay)).astype(float)
    key = {
        "stay_id": pl.Series(stay, dtype=pl.Int32),
        "time": pl.Series(hour * HOUR).cast(pl.Duration("ms")),
    }
    static = {
        "stay_id": pl.Series(ids, dtype=pl.Int32),
        "age": 60.0 + np.arange(stays),
        "sex": ["Female" if i % 2 else "Male" for i in ids],
        "height": pl.Series([None, *[170.0] * (stays - 1)]),
        "weight": pl.Series([80.5] * stays),
    }
    dynamic = {
        **key,
        "hr": hr,
        "temp": pl.Series(temp).set(pl.Series(~temp_is_charted), None),
        "urine": pl.Series(urine).set(pl.Series(~urine_is_charted), None),
    }
    label = (stay == 12) & (hour >= ONSET - 6)
    return {
        "sta": pl.DataFrame(static),
        "dyn": pl.DataFrame(dynamic),
        "outc": pl.DataFrame({**key, "label": label}),
    }


def write_frames(folder: Path, frames: Frames) -> Path:
    """Write the cohort's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def cohort_config(path: Path, **fields: object) -> CohortConfig:
    """The configuration of a cohort of these files."""
    return CohortConfig.model_validate(
        {"name": "test", "source": "yaib", "path": str(path), **fields}
    )
