"""Which items are charted, how often, and how a value is written: data, not code.

``physiology.csv`` has one row a quantity, in the catalogue's unit: its level is ``offset + gain``
times the ward's own variable, or ``offset`` with ``spread`` between stays where the ward has none;
``noise`` within a stay, ``septic`` what an episode adds. ``charted.csv`` has one row an item: from
minute ``at`` of the day on, ``every`` so many hours, written as value times ``scale`` plus
``shift``; of rows with the same ``choose``, a stay uses one (Fahrenheit or Celsius).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import mimic3_items

SYSTEMS = ("carevue", "metavision")
HABITS = 8
"""Ways of charting per system; a stay keeps to one."""

WORDS = tuple(
    """Clear|Diminished|Easily Palpable|Within Normal Limits|Alert|Lethargic|Sinus Rhythm|Sinus Tachycardia|None|
Present|Absent|Intact|Pale|Warm, Dry|Cool|Soft|Distended|Hypoactive|Not Assessed|Cooperative|Anxious|Bedrest|
Turned Left|Turned Right|Supine|Yes|No|Brisk|Sluggish|Scant|Moderate|Yellow, Clear|Nasal Cannula|Room Air|
Completely Limited|Slightly Limited|No Impairment|Done|Self|Two Assist""".replace("\n", "").split(
        "|"
    )
)
"""What stands in the cells of assessments."""

FREE_IDS = {
    "carevue": range(900, 8300),
    "metavision": range(226600, 228600),
    "lab": range(51080, 51480),
}
"""Where the ids of items that no cohort uses are taken from, less those that the catalogue knows."""


@dataclass(frozen=True)
class Quantity:
    """What a body has; see the module's docstring."""

    quantity: str
    variable: str | None
    ward: str | None
    offset: float
    gain: float
    spread: float
    noise: float
    septic: float
    low: float
    high: float


@dataclass(frozen=True)
class Charted:
    """How it is written."""

    table: str
    quantity: str
    at: int
    every: int
    choose: int | None
    carevue: int
    metavision: int
    unit: str | None
    scale: float
    shift: float
    decimals: int


def _rows(name: str) -> list[dict[str, object]]:
    frame = pl.read_csv((files("flowsheet.mimic_export") / name).read_bytes())
    numbers = {
        "scale": pl.Float64,
        "shift": pl.Float64,
        "offset": pl.Float64,
        "gain": pl.Float64,
        "low": pl.Float64,
    }
    return frame.cast({k: v for k, v in numbers.items() if k in frame.columns}).to_dicts()


@lru_cache(maxsize=1)
def quantities() -> tuple[Quantity, ...]:
    """All quantities, in the file's order."""
    return tuple(Quantity(**row) for row in _rows("physiology.csv"))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def charted() -> tuple[Charted, ...]:
    """All items that are written with a meaning, in the file's order."""
    return tuple(Charted(**row) for row in _rows("charted.csv"))  # type: ignore[arg-type]


def free_ids(system: str, n: int) -> list[int]:
    """``n`` item ids that mean nothing to the catalogue, spread over the system's range."""
    known = (
        set(mimic3_items()["itemid"])
        | {c.carevue for c in charted()}
        | {c.metavision for c in charted()}
    )
    free = [i for i in FREE_IDS[system] if i not in known]
    return [free[i] for i in np.linspace(0, len(free) - 1, n).astype(int)]
