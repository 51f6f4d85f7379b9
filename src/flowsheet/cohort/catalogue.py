"""The catalogue: which variables and drugs exist, in which unit, and what is plausible. Data, not
code.

``concepts/variables.csv`` and ``concepts/drugs.csv`` hold one row a concept; a source maps its own
items to these names and converts to these units. A plausible range says what can be true of a
living patient, not what is healthy; the bounds belong to it. Where published ranges would cut off
what intensive care really charts, the range is wider and ``source`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TypeVar

import polars as pl

from flowsheet.errors import UsageError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Variable:
    """Something that is measured: values in ``unit``, plausible between ``low`` and ``high`` (included)."""

    name: str
    label: str
    unit: str
    kind: str
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Drug:
    """Something that is given: doses in ``unit`` at once, or in ``unit`` per hour while it runs."""

    name: str
    label: str
    group: str
    unit: str


def _read(name: str) -> pl.DataFrame:
    return pl.read_csv(
        (files("flowsheet.cohort") / "concepts" / name).read_bytes(), infer_schema=False
    )


@lru_cache(maxsize=1)
def variables() -> dict[str, Variable]:
    """All variables by name, in the file's order.

    >>> variables()["hr"].unit, len(variables()) >= 34
    ('/min', True)
    """
    rows = (
        _read("variables.csv")
        .with_columns(pl.col("low", "high").cast(pl.Float64))
        .iter_rows(named=True)
    )
    return {row["name"]: Variable(**row) for row in rows}


@lru_cache(maxsize=1)
def drugs() -> dict[str, Drug]:
    """All drugs by name, in the file's order.

    >>> drugs()["vancomycin"].unit
    'mg'
    """
    return {row["name"]: Drug(**row) for row in _read("drugs.csv").iter_rows(named=True)}


def variable(name: str) -> Variable:
    """The variable of that name.

    Raises:
        UsageError: the catalogue has none; the message names the nearest one.
    """
    return _find("variable", name, variables())


def drug(name: str) -> Drug:
    """The drug of that name.

    Raises:
        UsageError: the catalogue has none; the message names the nearest one.
    """
    return _find("drug", name, drugs())


def ranges() -> pl.DataFrame:
    """(variable, low, high) of every variable, for joins.

    >>> ranges().head(1).rows()
    [('hr', 0.0, 300.0)]
    """
    return _columns(variables().values(), {"variable": "name", "low": "low", "high": "high"})


def drug_units() -> pl.DataFrame:
    """(drug, known_unit) of every drug, for joins."""
    return _columns(drugs().values(), {"drug": "name", "known_unit": "unit"})


@lru_cache(maxsize=1)
def mimic3_items() -> pl.DataFrame:
    """What the items of MIMIC-III's event tables mean, one row an item and concept.

    ``kind`` (variable, output, procedure, drug), ``name`` (the catalogue's, or ``specimen``),
    ``system`` (carevue, metavision, lab), ``table``, ``itemid``, ``label`` (the database
    dictionary's), ``unit`` (as charted; of a drug the catalogue's), ``convert`` (a named
    conversion), ``source``, ``note`` (where sources disagree).

    >>> mimic3_items().filter(name="temp", itemid=678).select("label", "unit", "convert").rows()
    [('Temperature F', 'degF', 'fahrenheit')]
    """
    return _read("mimic3_items.csv").with_columns(pl.col("itemid").cast(pl.Int64))


@lru_cache(maxsize=1)
def mimic3_prescriptions() -> pl.DataFrame:
    """Which orders of MIMIC-III's PRESCRIPTIONS mean which drug: the first row whose ``pattern`` is
    found in the drug's name, and whose ``exclude_pattern`` is not. Both are regular expressions for the
    name in lower case.

    Columns: drug, group, pattern, exclude_pattern ("" excludes nothing), source, note.

    >>> mimic3_prescriptions().filter(drug="ceftriaxone").select("group", "pattern").rows()
    [('antibiotic', 'ceftriaxone|rocephin')]
    """
    groups = _columns(drugs().values(), {"drug": "name", "group": "group"})
    found = _read("mimic3_prescriptions.csv").with_columns(
        pl.col("exclude_pattern", "note").fill_null("")
    )
    found = found.join(groups, on="drug", how="left", maintain_order="left")
    return found.select("drug", "group", "pattern", "exclude_pattern", "source", "note")


@lru_cache(maxsize=1)
def mimic3_routes() -> dict[str, str]:
    """The way into the body that a route code of PRESCRIPTIONS means, by the code in capitals.

    >>> mimic3_routes()["PO/NG"], mimic3_routes()["OU"]
    ('enteral', 'eye')
    """
    return dict(_read("mimic3_routes.csv").iter_rows())


@lru_cache(maxsize=1)
def mimic3_units() -> pl.DataFrame:
    """Units of amounts and rates as MIMIC-III writes them, in lower case without blanks and dots.

    ``size`` in mg, units, mL, mEq or mmol according to ``kind``; ``per_kg`` 1 where it is by
    weight; ``per_hour``: what makes a rate one per hour, null for an amount.

    >>> mimic3_units().filter(uom="mcgkgmin").select("kind", "size", "per_kg", "per_hour").rows()
    [('mass', 0.001, 1, 60.0)]
    """
    numbers = {"size": pl.Float64(), "per_kg": pl.Int64(), "per_hour": pl.Float64()}
    return _read("mimic3_units.csv").cast(numbers)  # type: ignore[arg-type]


def _columns(concepts: Iterable[object], names: dict[str, str]) -> pl.DataFrame:
    rows = list(concepts)
    return pl.DataFrame(
        {column: [getattr(row, field) for row in rows] for column, field in names.items()}
    )


def _find(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UsageError(
            f"the catalogue has no {kind} called {name!r}", todo=did_you_mean(name, known)
        )
    return known[name]
