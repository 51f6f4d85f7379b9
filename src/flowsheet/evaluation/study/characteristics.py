"""The table of characteristics: who the stays with an evaluated prediction are.

By part (training, validation, test) and by outcome. Counts below ``SMALL`` are not shown, nor are
their complements, so that no single patient can be recognised.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import Tables, empty_table
from flowsheet.cohort.sepsis3 import LabelInputs, Sepsis3Options, label
from flowsheet.evaluation.study.facts import Characteristic, Characteristics
from flowsheet.evaluation.study.outcome import SEPSIS3, load_definitions

SMALL = 5
"""Counts from 1 to one less than this are shown as "<5" (a common rule of statistical disclosure
control, as of the UK's NHS Digital and the CMS cell size policy in the USA)."""
MAX_GROUPS = 12
"""Groups of a categorical column shown, the largest ones that are not small."""
FIRST_DAY = pl.duration(hours=24)
STAYS_PER_CHUNK = 4_000
SOFA_NEEDS = {"map", "plt", "bili", "crea"}
COMA_SCALES = {"gcs", "mgcs"}

Rows = Iterator[Characteristic]


def tabulate_characteristics(extract: Extract, groups: pl.DataFrame) -> Characteristics:
    """The characteristics of some stays, in all and in each group.

    Args:
        extract: the cohort.
        groups: ``stay_id`` and a boolean column for each column of the table, under its heading.
    """
    stays = _collect_stays(extract, groups["stay_id"])
    membership = groups.join(stays, on="stay_id", how="left", maintain_order="left")
    headings = [name for name in groups.columns if name != "stay_id"]
    parts = [membership, *(membership.filter(pl.col(heading)) for heading in headings)]
    return Characteristics(columns=("All", *headings), rows=tuple(_make_rows(parts)))


def _collect_stays(extract: Extract, stay_ids: pl.Series) -> pl.DataFrame:
    """One row a stay: its own columns, and what was done on its first day."""
    columns = ("subject_id", "age", "sex", "ethnicity", "unit", "hospital_death")
    length = (pl.col("discharged_at") - pl.col("admitted_at")).dt.total_seconds() / 86_400
    stays = (
        extract.scan("stays")
        .filter(pl.col("stay_id").is_in(stay_ids.implode()))
        .sort("stay_id")
        .collect()
    )
    chunks = [_describe_first_day(extract, chunk) for chunk in stays.iter_slices(STAYS_PER_CHUNK)]
    stays = stays.with_columns(catalogue.group_ethnicity(pl.col("ethnicity")).alias("ethnicity"))
    described = stays.select("stay_id", *columns, length_of_stay=length)
    first_days = pl.concat(chunks) if chunks else pl.DataFrame(schema={"stay_id": pl.Int64()})
    return described.join(first_days, on="stay_id", how="left")


def _describe_first_day(extract: Extract, stays: pl.DataFrame) -> pl.DataFrame:
    """stay_id, ventilated, vasopressor and sofa, as far as the extract has what is needed."""
    tables = _read_first_day(extract, stays)
    manifest = extract.manifest
    result = stays.select("stay_id")
    if "vent" in manifest.variables:
        is_on = (pl.col("variable") == "vent") & (pl.col("value") > 0)
        result = _mark(result, tables.events.filter(is_on), "ventilated")
    vasopressors = [name for name, drug in catalogue.drugs().items() if drug.group == "vasopressor"]
    if set(vasopressors) & set(manifest.drugs):
        given = tables.treatments.filter(pl.col("drug").is_in(vasopressors))
        result = _mark(result, given, "vasopressor")
    variables = set(manifest.variables)
    if variables >= SOFA_NEEDS and variables & COMA_SCALES:
        result = result.join(_score_first_day(tables), on="stay_id", how="left")
    return result


def _read_first_day(extract: Extract, stays: pl.DataFrame) -> Tables:
    """The tables of a day from admission on, for some stays that ascend."""
    first, last = stays["stay_id"][0], stays["stay_id"][-1]
    admissions = stays.lazy().select("stay_id", "admitted_at")
    day_end = pl.col("admitted_at") + FIRST_DAY
    measured = [
        variable
        for part in load_definitions()[SEPSIS3]["sofa"]
        for variable in part.get("variables", ())
    ]

    def scan(table: str) -> pl.LazyFrame:
        in_chunk = pl.col("stay_id").is_between(first, last)
        return extract.scan(table).filter(in_chunk).join(admissions, on="stay_id")

    is_measured = pl.col("variable").is_in(measured)
    events = scan("events").filter(is_measured & (pl.col("time") <= day_end))
    treatments = scan("treatments").filter(
        (pl.col("start") < day_end) & (pl.col("end") >= pl.col("admitted_at"))
    )
    cut = stays.with_columns(discharged_at=pl.min_horizontal("discharged_at", day_end))
    return Tables(
        stays=cut,
        events=events.drop("admitted_at").collect(),
        treatments=treatments.drop("admitted_at").collect(),
        episodes=empty_table("episodes"),
    )


def _mark(stays: pl.DataFrame, rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return stays.with_columns(pl.col("stay_id").is_in(rows["stay_id"].implode()).alias(name))


def _score_first_day(tables: Tables) -> pl.DataFrame:
    """stay_id and the highest hourly SOFA score of the first day; null: nothing was measured."""
    inputs = LabelInputs(tables.stays, tables.events, tables.treatments)
    sofa = label(inputs, Sepsis3Options()).sofa
    known = sofa.filter(pl.col("known") > 0)
    return known.group_by("stay_id").agg(sofa=pl.col("total").max().cast(pl.Float64))


def _make_rows(parts: list[pl.DataFrame]) -> Rows:
    """The rows of the table; a column that is empty in all stays has none."""
    yield _row("Stays", (format_count(part.height) for part in parts))
    yield _row("Patients", (format_count(part["subject_id"].n_unique()) for part in parts))
    yield from _quantiles("Age, years", "age", parts, decimals=0)
    yield from _share("Female", pl.col("sex") == "F", "sex", parts)
    yield from _categories("Ethnicity", "ethnicity", parts)
    yield from _categories("Care unit", "unit", parts)
    yield from _quantiles("Length of stay, days", "length_of_stay", parts, decimals=1)
    yield from _quantiles("Highest SOFA score, first day", "sofa", parts, decimals=0)
    yield from _share("Ventilated, first day", pl.col("ventilated"), "ventilated", parts)
    yield from _share("Vasopressor, first day", pl.col("vasopressor"), "vasopressor", parts)
    yield from _share("Died in hospital", pl.col("hospital_death"), "hospital_death", parts)


def _row(label_text: str, cells: Iterator[str]) -> Characteristic:
    return Characteristic(label=label_text, cells=tuple(cells))


def _is_empty(column: str, parts: list[pl.DataFrame]) -> bool:
    return column not in parts[0].columns or parts[0][column].is_null().all()


def _quantiles(title: str, column: str, parts: list[pl.DataFrame], *, decimals: int) -> Rows:
    if _is_empty(column, parts):
        return
    cells = (_format_quantiles(part[column].drop_nulls(), decimals) for part in parts)
    yield _row(f"{title}: median [quartiles]", cells)
    yield from _unknown(column, parts)


def _share(title: str, condition: pl.Expr, column: str, parts: list[pl.DataFrame]) -> Rows:
    if _is_empty(column, parts):
        return
    known = [part.filter(pl.col(column).is_not_null()) for part in parts]
    yield _row(title, (format_share(part.filter(condition).height, part.height) for part in known))
    yield from _unknown(column, parts)


def _categories(title: str, column: str, parts: list[pl.DataFrame]) -> Rows:
    """A row for each group, the largest first; small groups are summed up."""
    if _is_empty(column, parts):
        return
    known = [part[column].drop_nulls() for part in parts]
    counts = (
        pl.DataFrame({"group": known[0]})
        .group_by("group")
        .len()
        .sort(["len", "group"], descending=[True, False])
    )
    shown = counts.filter(pl.col("len") >= SMALL)["group"].head(MAX_GROUPS).to_list()
    for group in shown:
        cells = (format_share(int((part == group).sum()), len(part)) for part in known)
        yield _row(f"{title}: {group}", cells)
    if counts.height > len(shown):
        others = (int((~part.is_in(shown)).sum()) for part in known)
        cells = (format_share(n, len(part)) for n, part in zip(others, known, strict=True))
        yield _row(f"{title}: other", cells)
    yield from _unknown(column, parts)


def _unknown(column: str, parts: list[pl.DataFrame]) -> Rows:
    """How many stays have no value, where any has none."""
    if parts[0][column].has_nulls():
        cells = (format_share(part[column].null_count(), part.height) for part in parts)
        yield _row("  not known", cells)


def _format_quantiles(values: pl.Series, decimals: int) -> str:
    if len(values) < SMALL:
        return "" if values.is_empty() else f"of fewer than {SMALL}: not shown"
    low, middle, high = (values.quantile(q, "linear") for q in (0.25, 0.5, 0.75))
    return f"{middle:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def format_count(n: int) -> str:
    """A count, unless it is small.

    >>> format_count(1234), format_count(4), format_count(0)
    ('1,234', '<5', '0')
    """
    return f"<{SMALL}" if 0 < n < SMALL else f"{n:,}"


def format_share(n: int, total: int) -> str:
    """A count and its share, unless it or its complement is small.

    >>> format_share(25, 100), format_share(3, 100), format_share(98, 100), format_share(0, 0)
    ('25 (25.0%)', '<5', '>95', '')
    """
    if not total:
        return ""
    if 0 < n < SMALL:
        return f"<{SMALL}"
    if 0 < total - n < SMALL:
        return f">{total - SMALL:,}"
    return f"{n:,} ({n / total:.1%})"
