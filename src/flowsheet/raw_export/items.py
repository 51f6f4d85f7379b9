"""Which items are charted, how often, and how their values are written: data, not code.

``quantities.csv`` has one row per quantity, in the catalogue's unit. Its level is ``offset`` +
``gain`` times the simulated variable, or, where the ward has none, ``offset`` with a standard
deviation of ``stay_sd`` between stays. ``noise_sd`` is the standard deviation within a stay, and
``septic_shift`` is added during an episode of sepsis.

``charted_items.csv`` has one row per item. It is charted every ``interval_hours``, from
``first_minute`` of the day on, as value times ``scale`` plus ``offset``. Of the rows with the same
``choice``, a stay uses one (Fahrenheit or Celsius).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import polars as pl

from flowsheet.cohort.catalogue import mimic3_items, read_items

SYSTEMS = ("carevue", "metavision")
"""The two chart systems."""
N_CHARTING_STYLES = 8
"""Combinations of choices among items; a stay keeps to one."""

ASSESSMENT_TEXTS = (
    *("Clear", "Diminished", "Easily Palpable", "Within Normal Limits", "Alert", "Lethargic"),
    *("Sinus Rhythm", "Sinus Tachycardia", "None", "Present", "Absent", "Intact", "Pale"),
    *("Warm, Dry", "Cool", "Soft", "Distended", "Hypoactive", "Not Assessed", "Cooperative"),
    *("Anxious", "Bedrest", "Turned Left", "Turned Right", "Supine", "Yes", "No", "Brisk"),
    *("Sluggish", "Scant", "Moderate", "Yellow, Clear", "Nasal Cannula", "Room Air"),
    *("Completely Limited", "Slightly Limited", "No Impairment", "Done", "Self", "Two Assist"),
)
"""Cells of items that are charted as text."""

_ITEM_ID_RANGES = {
    "carevue": range(900, 8300),
    "metavision": range(226600, 228600),
    "lab": range(51080, 51480),
}
"""Where the ids of unmapped items are taken from."""


@dataclass(frozen=True)
class Quantity:
    """A row of ``quantities.csv``; see the module's docstring."""

    name: str
    variable: str | None
    simulated_variable: str | None
    offset: float
    gain: float
    stay_sd: float
    noise_sd: float
    septic_shift: float
    low: float
    high: float


@dataclass(frozen=True)
class ChartedItem:
    """A row of ``charted_items.csv``; see the module's docstring."""

    table: str
    quantity: str
    first_minute: int
    interval_hours: int
    choice: int | None
    carevue_itemid: int
    metavision_itemid: int
    unit: str | None
    scale: float
    offset: float
    decimals: int


def _read_rows(name: str) -> list[dict[str, object]]:
    frame = pl.read_csv((files("flowsheet.raw_export") / name).read_bytes())
    numbers = ["scale", "offset", "gain", "low", "high"]
    numbers = [column for column in numbers if column in frame.columns]
    return frame.cast(dict.fromkeys(numbers, pl.Float64)).to_dicts()


@lru_cache(maxsize=1)
def load_quantities() -> tuple[Quantity, ...]:
    """All quantities, in the file's order."""
    return tuple(Quantity(**row) for row in _read_rows("quantities.csv"))  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def load_charted_items() -> tuple[ChartedItem, ...]:
    """All items with a quantity, in the file's order."""
    rows = _read_rows("charted_items.csv")
    return tuple(ChartedItem(**row) for row in rows)  # type: ignore[arg-type]


def list_charted_item_ids() -> set[int]:
    """Ids of all items with a quantity, of both chart systems."""
    carevue = {item.carevue_itemid for item in load_charted_items()}
    return carevue | {item.metavision_itemid for item in load_charted_items()}


def list_unmapped_item_ids(system: str, n: int) -> list[int]:
    """``n`` item ids that the catalogue does not map.

    Args:
        system: a chart system, or ``lab``.
        n: how many; they are spread over the system's range.
    """
    later_items = read_items("mimic4_items.csv")["itemid"]
    mapped = {*mimic3_items()["itemid"], *later_items} | list_charted_item_ids()
    unmapped = [item_id for item_id in _ITEM_ID_RANGES[system] if item_id not in mapped]
    return [unmapped[i] for i in np.linspace(0, len(unmapped) - 1, n).astype(int)]
