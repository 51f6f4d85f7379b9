"""The day of a table that is charted around the clock, as a template.

Such a table has many rows a day. Its template lists the rows of a day: at which time, of which
item. Everything that a cell of an item may contain is listed once, in a dictionary of cells (value,
number, unit and flags). The day of a stay is then the template with other positions in the
dictionary, and a row of the file is joined of parts that exist already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.raw_export.items import (
    ASSESSMENT_TEXTS,
    N_CHARTING_STYLES,
    SYSTEMS,
    ChartedItem,
    list_unmapped_item_ids,
    load_charted_items,
    load_quantities,
)
from flowsheet.raw_export.options import ExportOptions
from flowsheet.typing import Floats, Ints

_VARIANTS = range(4)
VALID, TEXT_VALUE, OUT_OF_RANGE, FLAGGED_ERROR = _VARIANTS
"""Variants of a cell."""

N_UNMAPPED_TEXTS = 280
N_UNMAPPED_NUMBERS = 120
"""Unmapped items of CHARTEVENTS per chart system."""
N_UNMAPPED_TESTS = 90
"""Unmapped items of LABEVENTS."""

_N_UNMAPPED_OUTPUTS = 12
_IMPOSSIBLE_NUMBER = "999999"
_MINUTES_PER_DAY = 1440
_ASSESSMENT_MINUTES = 240
"""Minutes between the rounds of assessments, which have more unmapped items than other times."""


@dataclass(frozen=True)
class CellDictionary:
    """What the cells of E entries may contain: N cells, each in every variant.

    An entry is an item in the unit in which it is charted.
    """

    item_id: Ints
    """(E,)"""
    unit: pl.Series
    """(E,) null: charted without one."""
    quantity: pl.Series
    """(E,) null: an unmapped item."""
    first_cell: Ints
    """(E,) position of the entry's first cell."""
    n_cells: Ints
    """(E,)"""
    low: Floats
    """(E,) number of the first cell, as charted."""
    step: Floats
    """(E,) difference between two cells' numbers."""
    scale: Floats
    """(E,) factor from the catalogue's unit to the charted one."""
    offset: Floats
    """(E,)"""
    cells: pl.DataFrame
    """(variants * N) rows: VALUE, VALUENUM (text), VALUEUOM, columns of the chart system; and
    TRUE_VALUE, the number in the catalogue's unit."""
    value: Floats
    """(N,) in the catalogue's unit; NaN for unmapped items."""


@dataclass(frozen=True)
class DayTemplate:
    """One day of one table in one chart system: R rows a day, at K charting times."""

    table: str
    system: int
    """Position of the chart system in ``SYSTEMS``."""
    minutes: Ints
    """(K,) charting times in minutes of the day, ascending."""
    time_index: Ints
    """(R,) position in ``minutes``, ascending."""
    entry: Ints
    """(N_CHARTING_STYLES, R) the entry in the dictionary."""
    quantity: Ints
    """(R,) position in ``load_quantities()``; -1 for unmapped items."""
    dictionary: CellDictionary


@dataclass(frozen=True)
class _Entry:
    item_id: int
    values: list[str]
    numbers: list[str]
    unit: str | None
    low: float = 0.0
    step: float = 1.0
    scale: float = 1.0
    offset: float = 0.0
    quantity: str | None = None


@dataclass(frozen=True)
class _PlannedCell:
    """A cell of the day of mapped items: its minute, and the items of which a stay uses one."""

    minute: int
    choices: list[int]


def make_day_template(table: str, system: int, options: ExportOptions) -> DayTemplate:
    """Plan the day of a table; equal options give equal templates.

    Args:
        table: CHARTEVENTS, LABEVENTS or OUTPUTEVENTS.
        system: position of the chart system in ``SYSTEMS``.
        options: the seed, and the shares of unmapped rows.
    """
    rng = np.random.default_rng([options.seed, 7, len(table), system])
    items = [item for item in load_charted_items() if item.table == table]
    entries = [_make_mapped_entry(item, system) for item in items]
    planned = _plan_cells(items)
    unmapped = _make_unmapped_entries(table, system, rng)
    share = options.unmapped_items if table == "CHARTEVENTS" else options.unmapped_tests
    n_unmapped_rows = round(len(planned) * share / (1 - share))
    minutes = np.unique([cell.minute for cell in planned])
    unmapped_rows = _plan_unmapped_rows(minutes, n_unmapped_rows, len(unmapped), len(entries), rng)
    row_minute = np.array([cell.minute for cell in planned] + [row[0] for row in unmapped_rows])
    entry_by_style = [
        [_choose(items, cell.choices, style) for cell in planned]
        + [int(entry[style]) for _, entry in unmapped_rows]
        for style in range(N_CHARTING_STYLES)
    ]
    positions = {quantity.name: i for i, quantity in enumerate(load_quantities())}
    quantity = [positions[items[cell.choices[0]].quantity] for cell in planned]
    quantity += [-1] * n_unmapped_rows
    order = np.argsort(row_minute, kind="stable")
    return DayTemplate(
        table=table,
        system=system,
        minutes=minutes,
        time_index=np.searchsorted(minutes, row_minute)[order],
        entry=np.stack(entry_by_style)[:, order],
        quantity=np.array(quantity)[order],
        dictionary=_make_dictionary(table, system, entries + unmapped),
    )


def _plan_cells(items: list[ChartedItem]) -> list[_PlannedCell]:
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, item in enumerate(items):
        choice = item.choice if item.choice is not None else f"only {i}"
        groups.setdefault((item.quantity, item.first_minute, choice), []).append(i)
    cells = []
    for choices in groups.values():
        item = items[choices[0]]
        minutes = range(item.first_minute, _MINUTES_PER_DAY, item.interval_hours * 60)
        cells += [_PlannedCell(minute, choices) for minute in minutes]
    return cells


def _choose(items: list[ChartedItem], choices: list[int], style: int) -> int:
    """The item that a charting style uses: a choice is a bit of the style's number."""
    bit = items[choices[0]].choice
    return choices[0] if bit is None else choices[(style >> bit) & 1]


def _plan_unmapped_rows(
    minutes: Ints, n_rows: int, n_entries: int, first_entry: int, rng: np.random.Generator
) -> list[tuple[int, Ints]]:
    """Plan the rows of unmapped items.

    Args:
        minutes: (K,) charting times in minutes of the day.
        n_rows: rows per day.
        n_entries: number of unmapped entries.
        first_entry: position of the first of them in the dictionary.
        rng: random numbers.

    Returns:
        The minute of each row, and its entry by charting style.
    """
    weight = np.where(minutes % _ASSESSMENT_MINUTES == 0, 6.0, 1.0)
    n_until = np.floor(np.cumsum(weight) / weight.sum() * n_rows + 1e-9).astype(int)
    rows: list[tuple[int, Ints]] = []
    for minute, n in zip(minutes, np.diff(n_until, prepend=0), strict=True):
        drawn = np.stack(
            [
                first_entry + rng.permutation(n_entries)[: min(n, n_entries)]
                for _ in range(N_CHARTING_STYLES)
            ]
        )
        drawn = np.concatenate([drawn, drawn[:, : n - drawn.shape[1]]], axis=1)
        rows += [(int(minute), drawn[:, i]) for i in range(drawn.shape[1])]
    return rows


def _make_mapped_entry(item: ChartedItem, system: int) -> _Entry:
    """All values that an item may have, as they are charted."""
    quantity = next(q for q in load_quantities() if q.name == item.quantity)
    step = 10.0**-item.decimals
    low = round(quantity.low * item.scale + item.offset, item.decimals)
    high = round(quantity.high * item.scale + item.offset, item.decimals)
    n_values = round((high - low) / step) + 1
    numbers = [f"{low + i * step:.{item.decimals}f}" for i in range(n_values)]
    return _Entry(
        item_id=(item.carevue_itemid, item.metavision_itemid)[system],
        values=numbers,
        numbers=numbers,
        unit=item.unit,
        low=low,
        step=step,
        scale=item.scale,
        offset=item.offset,
        quantity=item.quantity,
    )


def _make_unmapped_entries(table: str, system: int, rng: np.random.Generator) -> list[_Entry]:
    if table == "OUTPUTEVENTS":
        numbers = _count_up(0, 300, 10)
        item_ids = list_unmapped_item_ids(SYSTEMS[system], _N_UNMAPPED_OUTPUTS)
        return [_Entry(item_id, numbers, numbers, "ml") for item_id in item_ids]
    if table == "LABEVENTS":
        numbers = _count_up(0, 120, 1)
        item_ids = list_unmapped_item_ids("lab", N_UNMAPPED_TESTS)
        return [_Entry(item_id, numbers, numbers, "mg/dL") for item_id in item_ids]
    item_ids = list_unmapped_item_ids(SYSTEMS[system], N_UNMAPPED_TEXTS + N_UNMAPPED_NUMBERS)
    entries = []
    for item_id in item_ids[:N_UNMAPPED_TEXTS]:
        texts = list(rng.choice(ASSESSMENT_TEXTS, 6))
        entries.append(_Entry(item_id, texts, [""] * len(texts), None))
    ends = rng.integers(8, 120, N_UNMAPPED_NUMBERS)
    for item_id, end in zip(item_ids[N_UNMAPPED_TEXTS:], ends, strict=True):
        numbers = _count_up(0, int(end), 1)
        entries.append(_Entry(item_id, numbers, numbers, "cmH2O"))
    return entries


def _count_up(start: int, end: int, step: int) -> list[str]:
    return [str(number) for number in range(start, end, step)]


def _make_dictionary(table: str, system: int, entries: list[_Entry]) -> CellDictionary:
    n_cells = np.array([len(entry.values) for entry in entries])
    value = np.concatenate([_convert_to_catalogue(entry) for entry in entries])
    return CellDictionary(
        item_id=np.array([entry.item_id for entry in entries]),
        unit=pl.Series([entry.unit for entry in entries], dtype=pl.String),
        quantity=pl.Series([entry.quantity for entry in entries], dtype=pl.String),
        first_cell=np.cumsum(n_cells) - n_cells,
        n_cells=n_cells,
        low=np.array([entry.low for entry in entries]),
        step=np.array([entry.step for entry in entries]),
        scale=np.array([entry.scale for entry in entries]),
        offset=np.array([entry.offset for entry in entries]),
        cells=_make_cells(table, system, entries, value),
        value=value,
    )


def _convert_to_catalogue(entry: _Entry) -> Floats:
    if entry.quantity is None:
        return np.full(len(entry.values), np.nan)
    return (np.array(entry.numbers, dtype=float) - entry.offset) / entry.scale


def _make_cells(
    table: str, system: int, entries: list[_Entry], value_of_cell: Floats
) -> pl.DataFrame:
    """All cells of the entries, in every variant.

    Args:
        table: name of the table.
        system: position of the chart system in ``SYSTEMS``.
        entries: the items.
        value_of_cell: (N,) in the catalogue's unit.
    """
    rows = [
        (variant, *_add_error(table, variant, value, number), entry.unit)
        for variant in _VARIANTS
        for entry in entries
        for value, number in zip(entry.values, entry.numbers, strict=True)
    ]
    schema = {"variant": pl.Int64, **dict.fromkeys(("VALUE", "VALUENUM", "VALUEUOM"), pl.String)}
    cells = pl.DataFrame(rows, schema=schema, orient="row")
    if SYSTEMS[system] == "carevue":
        flags = {"STOPPED": pl.lit("NotStopd")}
    else:
        is_error = (pl.col("variant") == FLAGGED_ERROR).cast(pl.Int64)
        flags = {"WARNING": pl.lit(0), "ERROR": is_error}
    number = pl.col("VALUENUM").cast(pl.Float64)
    is_possible = pl.col("VALUENUM") != _IMPOSSIBLE_NUMBER
    true_value = pl.Series(np.tile(value_of_cell, len(_VARIANTS)))
    true_number = pl.when(is_possible).then(true_value).otherwise(number)
    return cells.with_columns(**flags, TRUE_VALUE=true_number).drop("variant")


def _add_error(table: str, variant: int, value: str, number: str) -> tuple[str | None, str | None]:
    """The value and the number of a cell in a variant.

    Args:
        table: name of the table.
        variant: VALID, TEXT_VALUE, OUT_OF_RANGE or FLAGGED_ERROR.
        value: the value as it should be.
        number: the number as it should be.
    """
    if variant == TEXT_VALUE:
        return _write_text(table, value), None
    if variant == OUT_OF_RANGE:
        return _IMPOSSIBLE_NUMBER, _IMPOSSIBLE_NUMBER
    return value, number or None


def _write_text(table: str, value: str) -> str | None:
    """What stands for a number that is not one."""
    if table == "CHARTEVENTS":
        return "ERROR"
    if table == "OUTPUTEVENTS":
        return None
    is_odd = value.endswith(("1", "3", "5", "7", "9"))
    return f">{value}" if is_odd else f"LESS THAN {value}"
