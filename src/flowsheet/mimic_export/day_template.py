"""A table that is charted around the clock, many rows a day: written by plan, not row by row.

A *sheet* lays down one day: which rows, at which minute, of which item. Everything that a cell of
an item may hold is spelled once, in a dictionary of *tails* (value, number, unit and flags as they
stand in the file). A stay's day is then the plan once more with other codes, and a row of the file
is five strings that exist already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.mimic_export.items import (
    HABITS,
    SYSTEMS,
    WORDS,
    Charted,
    charted,
    free_ids,
    quantities,
)
from flowsheet.mimic_export.options import ExportOptions
from flowsheet.typing import Floats, Ints

CLEAN, TEXT, RANGE, FLAG = range(4)
"""Variants of a tail."""
IMPOSSIBLE = "999999"
METAVISION = 220_000
"""Its item ids begin here."""
OTHER_WORDS, OTHER_NUMBERS = 280, 120
"""Items that no cohort uses, per sheet."""


@dataclass(frozen=True)
class Dictionary:
    """What E entries (an item as it is written) may hold: N cells, each in every variant."""

    itemid: pl.Series  # (E,) as text
    base: Ints  # (E,) where the entry's cells begin
    count: Ints  # (E,) how many they are
    low: Floats  # (E,) the first cell's number, as written
    step: Floats  # (E,) between two cells
    scale: Floats  # (E,)
    shift: Floats  # (E,)
    tails: pl.Series  # (variants * N,)
    value: Floats  # (N,) in the catalogue's unit; NaN: no cohort uses it


@dataclass(frozen=True)
class Plan:
    """One day of one system's sheet: R rows a day, in K rounds."""

    table: str
    slots: Ints  # (K,) minutes into the day, ascending
    slot: Ints  # (R,) position in slots, ascending
    entry: Ints  # (HABITS, R)
    quantity: Ints  # (R,) position in quantities(); -1: no cohort uses it
    dictionary: Dictionary


@dataclass(frozen=True)
class _Entry:
    itemid: int
    texts: list[str]
    numbers: list[str]
    unit: str | None
    low: float = 0.0
    step: float = 1.0
    scale: float = 1.0
    shift: float = 0.0
    used: bool = False


def plan(table: str, system: int, options: ExportOptions) -> Plan:
    """The day of ``table`` in the system of that position; the same for the same options."""
    rng = np.random.default_rng([options.seed, 7, len(table), system])
    rows = [c for c in charted() if c.table == table]
    entries = [_spelled(row, system) for row in rows]
    columns = _used_columns(rows)
    others = _other_entries(table, system, rng)
    share = options.unmapped_items if table == "CHARTEVENTS" else options.unmapped_tests
    n_other = round(len(columns) * share / (1 - share))
    slots = np.unique([minute for minute, _ in columns])
    filled = _other_columns(slots, n_other, len(others), len(entries), rng)
    minute = np.array([m for m, _ in columns] + [m for m, _ in filled])
    first = np.array([choices[0] for _, choices in columns] + [-1] * n_other)
    by_habit = np.stack(
        [
            [_chosen(rows, choices, h) for _, choices in columns] + [int(e[h]) for _, e in filled]
            for h in range(HABITS)
        ]
    )
    order = np.argsort(minute, kind="stable")
    position = {q.quantity: i for i, q in enumerate(quantities())}
    meaning = np.array([position[rows[i].quantity] if i >= 0 else -1 for i in first])
    return Plan(
        table=table,
        slots=slots,
        slot=np.searchsorted(slots, minute)[order],
        entry=by_habit[:, order],
        quantity=meaning[order],
        dictionary=_bound(table, entries + others),
    )


def _used_columns(rows: list[Charted]) -> list[tuple[int, list[int]]]:
    """(minute of the day, the rows among which a stay chooses) of every planned cell."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, row in enumerate(rows):
        key = (row.quantity, row.at, row.choose if row.choose is not None else f"only {i}")
        groups.setdefault(key, []).append(i)
    return [
        (minute, choices)
        for choices in groups.values()
        for minute in range(rows[choices[0]].at, 1440, rows[choices[0]].every * 60)
    ]


def _chosen(rows: list[Charted], choices: list[int], habit: int) -> int:
    bit = rows[choices[0]].choose
    return choices[0] if bit is None else choices[(habit >> bit) & 1]


def _other_columns(
    slots: Ints, n: int, others: int, first: int, rng: np.random.Generator
) -> list[tuple[int, Ints]]:
    """(minute, entry by habit) of the rows that no cohort uses; every fourth hour has its round of assessments."""
    weight = np.where(slots % 240 == 0, 6.0, 1.0)
    share = np.floor(np.cumsum(weight) / weight.sum() * n + 1e-9).astype(int)
    filled: list[tuple[int, Ints]] = []
    for minute, k in zip(slots, np.diff(share, prepend=0), strict=True):
        drawn = np.stack([first + rng.permutation(others)[: min(k, others)] for _ in range(HABITS)])
        drawn = np.concatenate([drawn, drawn[:, : k - drawn.shape[1]]], axis=1)
        filled += [(int(minute), drawn[:, i]) for i in range(drawn.shape[1])]
    return filled


def _spelled(row: Charted, system: int) -> _Entry:
    """Every value that an item may have, as it is written."""
    about = next(q for q in quantities() if q.quantity == row.quantity)
    step = 10.0**-row.decimals
    low, high = (round(v * row.scale + row.shift, row.decimals) for v in (about.low, about.high))
    numbers = [f"{low + i * step:.{row.decimals}f}" for i in range(round((high - low) / step) + 1)]
    itemid = (row.carevue, row.metavision)[system]
    return _Entry(itemid, numbers, numbers, row.unit, low, step, row.scale, row.shift, used=True)


def _other_entries(table: str, system: int, rng: np.random.Generator) -> list[_Entry]:
    if table == "OUTPUTEVENTS":
        return [
            _Entry(i, n, n, "ml")
            for i in free_ids(SYSTEMS[system], 12)
            for n in [_counting(0, 300, 10)]
        ]
    if table == "LABEVENTS":
        return [
            _Entry(i, n, n, "mg/dL") for i in free_ids("lab", 90) for n in [_counting(0, 120, 1)]
        ]
    ids = free_ids(SYSTEMS[system], OTHER_WORDS + OTHER_NUMBERS)
    words = [
        _Entry(i, w, [""] * len(w), None)
        for i in ids[:OTHER_WORDS]
        for w in [list(rng.choice(WORDS, 6))]
    ]
    tops = rng.integers(8, 120, OTHER_NUMBERS)
    counts = [_counting(0, int(top), 1) for top in tops]
    return words + [
        _Entry(i, n, n, "cmH2O") for i, n in zip(ids[OTHER_WORDS:], counts, strict=True)
    ]


def _counting(low: int, high: int, step: int) -> list[str]:
    return [str(i) for i in range(low, high, step)]


def _bound(table: str, entries: list[_Entry]) -> Dictionary:
    count = np.array([len(e.texts) for e in entries])
    spell = {"CHARTEVENTS": _chart_tail, "LABEVENTS": _lab_tail, "OUTPUTEVENTS": _output_tail}[
        table
    ]
    tails = [
        spell(variant, text, number, entry)
        for variant in (CLEAN, TEXT, RANGE, FLAG)
        for entry in entries
        for text, number in zip(entry.texts, entry.numbers, strict=True)
    ]
    value = [
        (np.array(e.numbers, dtype=float) - e.shift) / e.scale
        if e.used
        else np.full(len(e.texts), np.nan)
        for e in entries
    ]
    return Dictionary(
        itemid=pl.Series([str(e.itemid) for e in entries]),
        base=np.cumsum(count) - count,
        count=count,
        low=np.array([e.low for e in entries]),
        step=np.array([e.step for e in entries]),
        scale=np.array([e.scale for e in entries]),
        shift=np.array([e.shift for e in entries]),
        tails=pl.Series(tails),
        value=np.concatenate(value),
    )


def _chart_tail(variant: int, text: str, number: str, about: _Entry) -> str:
    text, number = _soiled(variant, text, number, "ERROR")
    flags = f"0,{int(variant == FLAG)},," if about.itemid >= METAVISION else ',,,"NotStopd"'
    return f"{_quoted(text)},{number},{_quoted(about.unit)},{flags}"


def _lab_tail(variant: int, text: str, number: str, about: _Entry) -> str:
    words = f">{text}" if text.endswith(("1", "3", "5", "7", "9")) else f"LESS THAN {text}"
    text, number = _soiled(variant, text, number, words)
    return f"{_quoted(text)},{number},{_quoted(about.unit)},"


def _output_tail(variant: int, text: str, number: str, about: _Entry) -> str:
    _, number = _soiled(variant, text, number, "")
    return f"{number},{_quoted(about.unit)}"


def _soiled(variant: int, text: str, number: str, words: str) -> tuple[str, str]:
    if variant == TEXT:
        return words, ""
    return (IMPOSSIBLE, IMPOSSIBLE) if variant == RANGE else (text, number)


def _quoted(text: str | None) -> str:
    return f'"{text}"' if text else ""
