"""The catalogue: the variables and drugs that exist, their units and plausible ranges.

``concepts/variables.csv`` and ``concepts/drugs.csv`` have one row per concept; a source maps its
own items to these names and converts to these units. A plausible range contains the values that are
possible for a living patient, not only healthy ones; both bounds are included. Where published
ranges would exclude values that are really charted in intensive care, the range is wider and
``source`` gives the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeVar

import polars as pl

from flowsheet.cohort.own_concepts import Concepts, Drug, Variable, read_own_concepts
from flowsheet.errors import UsageError, did_you_mean

T = TypeVar("T")

ICD_VERSIONS = (9, 10)
"""Of the International Classification of Diseases, whose codes of comorbidities are known."""
ANTI_INFECTIVE_GROUPS = ("antibiotic", "antiviral", "antifungal", "other anti-infective")
"""The groups of the drugs that are given against infections."""


def _read(name: str) -> pl.DataFrame:
    return pl.read_csv(
        (files("flowsheet.cohort") / "concepts" / name).read_bytes(), infer_schema=False
    )


def variables() -> dict[str, Variable]:
    """All variables by name, in the file's order; the project's own ones come last.

    >>> variables()["hr"].unit, len(variables()) >= 34
    ('/min', True)
    """
    return concepts().variables


def drugs() -> dict[str, Drug]:
    """All drugs by name, in the file's order; the project's own ones come last.

    >>> drugs()["vancomycin"].unit
    'mg'
    """
    return concepts().drugs


def concepts() -> Concepts:
    """All variables and drugs, the project's own ones included; the same object until they change.

    Raises:
        UsageError: a file of the project is wrong; the message names its row and column.
    """
    return read_own_concepts(_shipped())


@lru_cache(maxsize=1)
def _shipped() -> Concepts:
    numbers = pl.col("low", "high").cast(pl.Float64)
    variable_rows = _read("variables.csv").with_columns(numbers).iter_rows(named=True)
    drug_rows = _read("drugs.csv").with_columns(pl.col("max_rate").cast(pl.Float64))
    return Concepts(
        {row["name"]: Variable(**row) for row in variable_rows},
        {row["name"]: Drug(**row) for row in drug_rows.iter_rows(named=True)},
    )


def own_concepts(variable_names: Iterable[str], drug_names: Iterable[str]) -> dict[str, Any]:
    """The definitions of those variables and drugs that are the project's own, by name."""
    shipped, known = _shipped(), concepts()
    own: dict[str, Any] = {}
    parts: tuple[tuple[Iterable[str], Mapping[str, Any], Mapping[str, Any]], ...] = (
        (variable_names, known.variables, shipped.variables),
        (drug_names, known.drugs, shipped.drugs),
    )
    for names, known_concepts, shipped_concepts in parts:
        for name in names:
            if name in known_concepts and name not in shipped_concepts:
                own[name] = asdict(known_concepts[name])
    return own


def own_concepts_key() -> dict[str, Any]:
    """A part of a stage's key: the project's own variables and drugs; empty without any."""
    own = own_concepts(variables(), drugs())
    return {"own_concepts": own} if own else {}


def variable(name: str) -> Variable:
    """The variable of that name.

    Raises:
        UsageError: there is no such variable; the message suggests the nearest name.
    """
    return _look_up("variable", name, variables())


def drug(name: str) -> Drug:
    """The drug of that name.

    Raises:
        UsageError: there is no such drug; the message suggests the nearest name.
    """
    return _look_up("drug", name, drugs())


def ranges() -> pl.DataFrame:
    """(variable, low, high) of every variable, for joins.

    >>> ranges().head(1).rows()
    [('hr', 1.0, 300.0)]
    """
    return _columns(variables().values(), {"variable": "name", "low": "low", "high": "high"})


def drug_units() -> pl.DataFrame:
    """(drug, known_unit, max_rate) of every drug, for joins."""
    names = {"drug": "name", "known_unit": "unit", "max_rate": "max_rate"}
    return _columns(drugs().values(), names)


@lru_cache(maxsize=1)
def mimic3_items() -> pl.DataFrame:
    """The concepts that the items of MIMIC-III's event tables record, one row per item and concept.

    Columns: ``kind`` (variable, output, procedure, drug, or copy: a result of the laboratory that
    is charted once more), ``name`` (in the catalogue, or ``specimen``), ``system`` (carevue,
    metavision, lab), ``table``, ``itemid``, ``label`` (from the database's dictionary), ``unit``
    (as charted; for a drug the catalogue's), ``convert`` (the name of a conversion),
    ``delay_hours`` (from the sample to the result of the laboratory: the 95th percentile in the
    open demo of MIMIC-IV 2.2, see benchmarks/laboratory_delays.py), ``source``, ``note`` (where
    sources disagree).

    >>> mimic3_items().filter(name="temp", itemid=678).select("label", "unit", "convert").rows()
    [('Temperature F', 'degF', 'fahrenheit')]
    """
    return read_items("mimic3_items.csv")


def read_items(name: str, text: bool = False) -> pl.DataFrame:
    """A shipped file of items; columns as in ``mimic3_items``. With ``text``, items are texts.

    Raises:
        UsageError: there is no such file.
    """
    if not (files("flowsheet.cohort") / "concepts" / name).is_file():
        raise UsageError(f"there is no file of items called {name!r}", todo="add it to the folder")
    numbers = {"itemid": pl.String() if text else pl.Int64(), "delay_hours": pl.Float64()}
    return _read(name).cast(numbers)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def mimic3_texts() -> pl.DataFrame:
    """The values of texts that MIMIC-III charts, in lower case, by conversion.

    Columns: convert, text, value, source.

    >>> mimic3_texts().filter(convert="rrt_system", text="clotted")["value"].to_list()
    [0.0]
    """
    return _read("mimic3_texts.csv").with_columns(pl.col("value").cast(pl.Float64))


@lru_cache(maxsize=1)
def fio2_by_flow() -> pl.DataFrame:
    """(device, flow, fio2): up to which flow of oxygen, in L/min, a device gives which FiO2 in %.

    ``device`` is a value of the variable ``o2_device``.

    >>> fio2_by_flow().filter(device=1.0, flow=4.0)["fio2"].to_list()
    [36.0]
    """
    return _read("fio2_by_flow.csv").with_columns(pl.all().cast(pl.Float64))


@lru_cache(maxsize=1)
def vasopressor_equivalents() -> pl.DataFrame:
    """(drug, factor, source): the dose of norepinephrine in mcg/kg/min that equals a unit a minute.

    >>> vasopressor_equivalents().filter(drug="vasopressin")["factor"].to_list()
    [2.5]
    """
    return _read("vasopressor_equivalents.csv").with_columns(pl.col("factor").cast(pl.Float64))


@lru_cache(maxsize=1)
def comorbidity_codes() -> pl.DataFrame:
    """(version, score, condition, code): the first characters of the codes of each condition.

    The version is 9 (ICD-9-CM) or 10 (ICD-10).

    >>> dementia = comorbidity_codes().filter(score="charlson", condition="dementia", version=10)
    >>> dementia["code"].to_list()
    ['F00', 'F01', 'F02', 'F03', 'F051', 'G30', 'G311']
    """
    versions = [
        _read(f"icd{version}_comorbidities.csv").with_columns(version=pl.lit(version))
        for version in ICD_VERSIONS
    ]
    return pl.concat(versions).select("version", "score", "condition", "code")


@lru_cache(maxsize=1)
def comorbidity_weights() -> pl.DataFrame:
    """(score, condition, weight, superseded_by, source) of every condition.

    >>> comorbidity_weights().filter(score="charlson", condition="cancer")["weight"].to_list()
    [2.0]
    """
    return _read("comorbidity_weights.csv").with_columns(pl.col("weight").cast(pl.Float64))


def group_ethnicity(ethnicity: pl.Expr) -> pl.Expr:
    """Recorded ethnicities in the broad groups of ``concepts/ethnicity_groups.csv``; null: unknown.

    The first pattern that the text contains, in lower case, gives the group.

    >>> recorded = ["WHITE - RUSSIAN", "UNABLE TO OBTAIN", "Hispanic or Latino", "PORTUGUESE", None]
    >>> stays = pl.DataFrame({"ethnicity": recorded})
    >>> stays.select(group_ethnicity(pl.col("ethnicity"))).to_series().to_list()
    ['white', None, 'hispanic', 'other', None]
    """
    text = ethnicity.str.strip_chars().str.to_lowercase()
    grouped = pl.lit(None, pl.String)
    for pattern, group, _ in reversed(_read("ethnicity_groups.csv").rows()):
        grouped = pl.when(text.str.contains(pattern)).then(pl.lit(group)).otherwise(grouped)
    return grouped


@lru_cache(maxsize=1)
def mimic3_prescriptions() -> pl.DataFrame:
    """Patterns that map the orders of MIMIC-III's PRESCRIPTIONS to drugs.

    An order belongs to the first row whose ``pattern`` matches the drug's name and whose
    ``exclude_pattern`` does not. Both are regular expressions for the name in lower case; an empty
    ``exclude_pattern`` excludes nothing.

    Columns: drug, group, pattern, exclude_pattern, source, note.

    >>> mimic3_prescriptions().filter(drug="ceftriaxone").select("group", "pattern").rows()
    [('antibiotic', 'ceftriaxone|rocephin')]
    """
    groups = _columns(drugs().values(), {"drug": "name", "group": "group"})
    patterns = _read("mimic3_prescriptions.csv").with_columns(
        pl.col("exclude_pattern", "note").fill_null("")
    )
    patterns = patterns.join(groups, on="drug", how="left", maintain_order="left")
    return patterns.select("drug", "group", "pattern", "exclude_pattern", "source", "note")


@lru_cache(maxsize=1)
def mimic3_routes() -> dict[str, str]:
    """The route of administration for each route code of PRESCRIPTIONS, by the code in capitals.

    >>> mimic3_routes()["PO/NG"], mimic3_routes()["OU"]
    ('enteral', 'eye')
    """
    return dict(_read("mimic3_routes.csv").iter_rows())


@lru_cache(maxsize=1)
def mimic3_units() -> pl.DataFrame:
    """Units of amounts and rates as MIMIC-III writes them, in lower case without blanks and dots.

    ``size`` is in mg, units, mL, mEq or mmol, depending on ``kind``; ``per_kg`` is 1 for doses by
    weight; ``per_hour`` is the factor that converts a rate to one per hour, null for an amount.

    >>> mimic3_units().filter(uom="mcgkgmin").select("kind", "size", "per_kg", "per_hour").rows()
    [('mass', 0.001, 1, 60.0)]
    """
    numbers = {"size": pl.Float64(), "per_kg": pl.Int64(), "per_hour": pl.Float64()}
    return _read("mimic3_units.csv").cast(numbers)  # type: ignore[arg-type]


def _columns(concepts: Iterable[object], names: dict[str, str]) -> pl.DataFrame:
    """A frame with one row per concept; ``names`` maps each column to the concepts' attribute."""
    rows = list(concepts)
    columns: dict[str, list[object]] = {}
    for column, attribute in names.items():
        columns[column] = [getattr(row, attribute) for row in rows]
    return pl.DataFrame(columns)


def _look_up(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise UsageError(
            f"the catalogue has no {kind} named {name!r}", todo=did_you_mean(name, known)
        )
    return known[name]
