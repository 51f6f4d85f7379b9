"""Units as chart systems and laboratories write them, compared with the unit that an item has.

No value is converted for the unit beside it: an unknown one is counted and reported, or rejected.
"""

from __future__ import annotations

from collections import Counter

import polars as pl

from flowsheet.cohort.completeness import UNKNOWN_UNIT
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.units import fold_units

_NOT_STATED = ("", "none", "n/a", "(nounits)", "unk")
_SAME = (
    ("mmol/l", "meq/l"),  # ions with one charge, and base excess
    ("10^9/l", "k/ul", "10^3/ul", "k/mcl", "10^3/mcl", "10^3/mm^3", "10^3/mm3"),
    ("10^12/l", "m/ul", "10^6/ul", "m/mcl", "10^6/mcl", "10^6/mm^3", "10^6/mm3"),
    ("s", "sec", "secs", "second", "seconds"),
    ("u/l", "iu/l", "[iu]/l"),
    ("mmhg", "mm[hg]"),
    ("cmh2o", "cm[h2o]"),
    ("mm/h", "mm/hr", "mm/hour"),
    ("/min", "bpm", "insp/min", "breaths/min", "beats/min", "1/min", "min^-1", "min-1"),
    ("degf", "?f", "°f", "f", "[degf]"),
    ("degc", "?c", "°c", "c", "cel"),
    ("ml", "cc", "ml/b"),
    ("l/min", "lpm"),
    ("l/min/m^2", "l/min/m2"),
    ("in", "inch", "inches"),
    ("1", "units", "points", "ratio"),
    ("kg", "kgs"),
    ("lb", "lbs", "pounds"),
    ("cm", "cms"),
    ("%", "percent"),
    ("g/dl", "gm/dl", "g%"),
)
"""Spellings of one unit; the first is the item maps'."""
_SPELLINGS = {name: names[0] for names in _SAME for name in names}
_OTHER_UNITS = [("mchc", "g/dl")]
"""(variable, unit) of which a value is the same number in the item's unit: g of haemoglobin in
100 mL of red cells are its percentage."""
_MAX_CHARACTERS = 12
_MAX_REASONS = 500
"""Further ones are counted without their text."""


def same_spelling(unit: pl.Expr) -> pl.Expr:
    """A unit in one spelling; null where none is stated.

    >>> units = pl.DataFrame({"unit": ["K/uL", "10^9/L", "...", None]})
    >>> units.select(same_spelling(pl.col("unit")))["unit"].to_list()
    ['10^9/l', '10^9/l', None, None]
    """
    text = fold_units(unit)
    stated = pl.when(~text.is_in(_NOT_STATED)).then(text)
    return stated.replace(_SPELLINGS).alias(unit.meta.output_name())


def count_unknown_units(
    rows: pl.DataFrame, table: str, items: pl.DataFrame, counts: Counter[str]
) -> None:
    """Count rows of numbers whose unit is another than their item's.

    Args:
        rows: ``code`` and, where the table has it, ``unit``.
        table: name of the raw table.
        items: the items by their code.
        counts: receives the number of rows by reason; the rows are kept.
    """
    if "unit" not in rows.columns:
        return
    charted = rows.group_by("code", "unit").len()
    count_other_units(charted.join(_expect_units(items), on="code"), table, counts)


def count_other_units(charted: pl.DataFrame, table: str, counts: Counter[str]) -> None:
    """Count rows whose unit is another than the expected one.

    Args:
        charted: (name, unit, expected, len), the number of rows of a variable with a unit.
        table: name of the raw table.
        counts: receives the number of rows by reason; the rows are kept.
    """
    spelled = charted.with_columns(same_spelling(pl.col("unit")), same_spelling(pl.col("expected")))
    other = spelled.filter(pl.col("unit") != pl.col("expected"))
    known = pl.DataFrame(_OTHER_UNITS, {"name": pl.String, "unit": pl.String}, orient="row")
    other = other.join(known, on=["name", "unit"], how="anti")
    sums = other.group_by("name", "unit").agg(pl.col("len").sum()).sort("name", "unit")
    for name, unit, n in sums.iter_rows():
        text = unit[:_MAX_CHARACTERS] if len(counts) < _MAX_REASONS else "others"
        counts[f"{table}: {UNKNOWN_UNIT}: {name} in {text} (rows kept)"] += n


def reject_other_units(
    rows: pl.DataFrame, table: str, items: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    """The rows without those whose unit is another than their item's.

    Args:
        rows: ``code``, ``row`` and, where the table has it, ``unit``; one that is not stated is the
            item's.
        table: name of the raw table.
        items: the items by their code.
        log: receives the other rows as defects.
    """
    if "unit" not in rows.columns:
        return rows
    expected = _expect_units(items).drop("name")
    joined = rows.join(expected, on="code", how="left", maintain_order="left")
    is_other = same_spelling(pl.col("unit")) != pl.col("expected")
    return log.reject(joined, is_other, table, "unit", "unit").drop("expected")


def _expect_units(items: pl.DataFrame) -> pl.DataFrame:
    """(code, name, expected) of the items that are numbers: the unit in one spelling."""
    numbers = items.filter(~pl.col("is_text"), ~pl.col("is_share"))
    return numbers.select("code", "name", expected=same_spelling(pl.col("unit")))
