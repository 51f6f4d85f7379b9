"""A sheet's plan laid over the days of some stays: the rows of a file, what they mean, and the dirt among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import ndtri

from flowsheet.mimic_export.day_template import CLEAN, FLAG, RANGE, TEXT, Plan
from flowsheet.mimic_export.items import quantities
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.mimic_export.patients import Patients
from flowsheet.typing import Bools, Floats, Ints, Labels, Times

BITS = 1 << 16
NORMAL = ndtri((np.arange(BITS) + 0.5) / BITS)
"""A standard normal by 16 random bits."""

NO_ID, TWICE, SKIPPED = 4, 5, 6
"""What may befall a row, beside the variants of its tail."""
NAMES = {
    TEXT: "text_values",
    RANGE: "out_of_range",
    FLAG: "flagged_errors",
    NO_ID: "missing_ids",
    TWICE: "duplicates",
}


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, in the order of the file."""

    stay: Ints  # position of the stay
    has_id: Bools
    slot: Ints  # position in ``chart`` and ``store``
    entry: Ints
    tail: Ints
    chart: Times  # (D x K,)
    store: Times
    truth: pl.DataFrame
    dirt: Counter[str]


def lay(plan: Plan, who: Patients, options: ExportOptions, rng: np.random.Generator) -> Rows:
    """Chart the days of ``who``; memory goes with the rows, about 100 bytes each."""
    days, cells = len(who.day_stay), len(plan.slot)
    bits = rng.integers(0, 1 << 32, (days, cells), dtype=np.uint32)
    luck = (bits & (BITS - 1)).astype(np.int32)
    fate = _fates(plan, options)[(plan.quantity >= 0).astype(int)[None, :], bits >> 16]
    entry = plan.entry[who.habit[who.day_stay]]
    words = plan.dictionary
    code = (words.count.astype(np.int32)[entry] * luck) >> 16
    used = np.flatnonzero(plan.quantity >= 0)
    code[:, used] = _measured(plan, who, entry[:, used], NORMAL[luck[:, used]], used)
    tail = words.base[entry] + code
    chart, store = _times(plan, who, options, rng)
    kept = np.flatnonzero(fate != SKIPPED)
    happened = fate.ravel()[kept]
    dirt = _count(happened, plan.quantity[kept % cells] >= 0)
    found = _found(plan, kept, happened)
    times = 1 + (happened == TWICE)
    row = np.repeat(kept, times)
    happened = np.repeat(happened, times)
    variant = np.where(happened <= FLAG, happened, CLEAN).astype(np.int64)
    day = row // cells
    return Rows(
        stay=who.day_stay[day],
        has_id=happened != NO_ID,
        slot=day * len(plan.slots) + plan.slot[row % cells],
        entry=entry.ravel()[row],
        tail=tail.ravel()[row] + variant * len(words.value),
        chart=chart,
        store=store,
        truth=_truth(plan, who, found, tail.ravel()[found], (chart, store)),
        dirt=dirt,
    )


def _fates(plan: Plan, options: ExportOptions) -> Labels:
    """What 16 random bits mean, (2, BITS): for items that no cohort uses, and for the others."""
    metavision_chart = plan.table == "CHARTEVENTS" and plan.dictionary.itemid[0].startswith("22")
    shares = {
        SKIPPED: options.not_charted,
        TWICE: options.duplicates,
        NO_ID: options.missing_stay_ids,
        TEXT: options.text_values,
        RANGE: options.out_of_range,
        FLAG: options.flagged_errors if metavision_chart else 0.0,
    }
    table = np.zeros((2, BITS), dtype=np.int8)
    done = 0
    for fate, share in shares.items():
        upto = done + round(share * BITS)
        table[1, done:upto] = fate
        if fate in (SKIPPED, TWICE, NO_ID):
            table[0, done:upto] = fate
        done = upto
    return table


def _measured(plan: Plan, who: Patients, entry: Ints, noise: Floats, used: Ints) -> Ints:
    """Codes of the cells that mean something, (D, used)."""
    about = quantities()
    which = plan.quantity[used]
    spread = np.array([q.noise for q in about])[which]
    septic = np.array([q.septic for q in about])[which]
    hour = plan.slots[plan.slot[used]] // 60
    value = who.level.T[:, which] + spread * noise + septic * who.septic[:, hour]
    words = plan.dictionary
    written = value * words.scale[entry] + words.shift[entry]
    code = np.rint((written - words.low[entry]) / words.step[entry])
    return np.asarray(np.clip(code, 0, words.count[entry] - 1).astype(np.int32))


def _times(
    plan: Plan, who: Patients, options: ExportOptions, rng: np.random.Generator
) -> tuple[Times, Times]:
    """CHARTTIME and STORETIME of every round of every day, (D x K,): mostly on the hour, stored minutes later."""
    shape = (len(who.day_stay), len(plan.slots))
    off = np.where(rng.random(shape) < 0.2, rng.integers(1, 15, shape), 0)
    chart = who.day_start[:, None] + (plan.slots + off).astype("timedelta64[m]")
    wait = 1 + rng.exponential(25, shape).astype(np.int64)
    wait = np.where(rng.random(shape) < options.stored_early, -rng.integers(1, 10, shape), wait)
    return chart.ravel(), (chart + wait.astype("timedelta64[m]")).ravel()


def _count(fate: Labels, used: Bools) -> Counter[str]:
    """Rows (before any is doubled) and what befell those of items that a cohort uses."""
    met = np.bincount(fate[used], minlength=TWICE + 1)
    dirt = Counter({name: int(met[code]) for code, name in NAMES.items()})
    dirt["rows_used"], dirt["rows"] = int(used.sum()), len(fate) + int((fate == TWICE).sum())
    return dirt


def _found(plan: Plan, kept: Ints, fate: Labels) -> Ints:
    """The cells of which a cohort should find the value."""
    unharmed = (fate == CLEAN) | (fate == NO_ID) | (fate == TWICE)
    return np.asarray(kept[unharmed & (plan.quantity[kept % len(plan.slot)] >= 0)])


def _truth(
    plan: Plan, who: Patients, cell: Ints, tail: Ints, times: tuple[Times, Times]
) -> pl.DataFrame:
    """The values that a cohort should find: (icustay_id, time, stored_at, variable, value)."""
    day, column = np.divmod(cell, len(plan.slot))
    slot = day * len(plan.slots) + plan.slot[column]
    names = pl.Series([q.variable or q.quantity for q in quantities()])
    return pl.DataFrame(
        {
            "icustay_id": who.stays["icustay_id"].gather(who.day_stay[day]),
            "time": times[0][slot],
            "stored_at": times[1][slot],
            "variable": names.gather(plan.quantity[column]),
            "value": plan.dictionary.value[tail],
        }
    )
