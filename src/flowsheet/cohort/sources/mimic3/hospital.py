"""What PRESCRIPTIONS and MICROBIOLOGYEVENTS tell of a whole hospital admission: orders, and when
cultures were taken.

Both are small once filtered, and stay in memory. An order knows days, not hours: it begins at 00:00
of its first day, ends at 24:00 of its last, and counts as known from 24:00 of its first.
"""

from __future__ import annotations

import re

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TIME, TREATMENTS
from flowsheet.cohort.sepsis3 import ANTIBIOTICS, CULTURES
from flowsheet.cohort.sources.mimic3.events import items
from flowsheet.cohort.sources.mimic3.exclusions import Tally, moments, whole
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.reading import stream

GROUPS = ("antibiotic", "antiviral", "antifungal", "other anti-infective")
"""Drug groups whose orders are offered to the label; its options choose among them."""
SURFACES = (
    "topical",
    "eye",
    "ear",
    "nasal",
    "inhaled",
    "vaginal",
    "irrigation",
    "catheter lock",
    "dialysis",
)
"""Ways that are no treatment of the whole patient."""

_ORDERS = {
    "hadm_id": pl.Int64(),
    "drug": pl.String(),
    "route": pl.String(),
    "first": TIME,
    "end": TIME,
}
_TAKEN = {
    "hadm_id": pl.Int64(),
    "time": TIME,
    "known_at": TIME,
    "specimen": pl.String(),
    "date_only": pl.Boolean(),
}
_DAY = pl.duration(days=1)


class Drugs:
    """Names of ordered drugs to the catalogue's."""

    def __init__(self) -> None:
        rows = (
            catalogue.mimic3_prescriptions()
            .select("drug", "pattern", "exclude_pattern")
            .iter_rows()
        )
        self._patterns = [
            (drug, re.compile(find), re.compile(without or "$^")) for drug, find, without in rows
        ]
        self._found: dict[str, str | None] = {}

    def of(self, names: pl.Series) -> pl.Series:
        """The catalogue's drug of each name; null where there is none."""
        for name in names.drop_nulls().unique():
            if name not in self._found:
                self._found[name] = self._search(name.lower())
        return names.replace_strict(self._found, default=None, return_dtype=pl.String())

    def _search(self, name: str) -> str | None:
        fits = (
            drug
            for drug, find, without in self._patterns
            if find.search(name) and not without.search(name)
        )
        return next(fits, None)


def read_orders(table: RawTable, admissions: pl.Series, tally: Tally) -> pl.DataFrame:
    """Orders of the catalogue's drugs in these hospital admissions: hadm_id, drug, route (the way), first, end."""
    drugs, ways = Drugs(), catalogue.mimic3_routes()
    parts = [pl.DataFrame(schema=_ORDERS)]
    for rows in stream(table, tally):
        mine = whole(rows, "hadm_id").filter(pl.col("hadm_id").is_in(admissions.implode()))
        named = mine.with_columns(drugs.of(mine["drug"]).alias("drug"))
        named = tally.leave_out(
            named, pl.col("drug").is_null(), "prescriptions: drugs that the catalogue does not map"
        )
        named = moments(named, table.name, tally, "startdate", "enddate")
        named = tally.leave_out(
            named, pl.col("startdate").is_null(), "prescriptions: without a first day"
        )
        first = pl.col("startdate").dt.truncate("1d")
        last = pl.max_horizontal(first, pl.col("enddate").dt.truncate("1d").fill_null(first))
        route = pl.col("route").cast(pl.String).str.strip_chars().str.to_uppercase()
        way = route.replace_strict(ways, default="other", return_dtype=pl.String())
        said = pl.when(route != "").then(way)
        parts.append(
            named.select(
                "hadm_id",
                "drug",
                said.alias("route"),
                first.alias("first"),
                (last + _DAY).alias("end"),
            )
        )
    return pl.concat(parts).unique().sort(list(_ORDERS))


def read_cultures(table: RawTable, admissions: pl.Series, tally: Tally) -> pl.DataFrame:
    """Cultures of these hospital admissions, one row a specimen and moment."""
    parts = [pl.DataFrame(schema=_TAKEN)]
    for rows in stream(table, tally):
        mine = whole(rows, "hadm_id").filter(pl.col("hadm_id").is_in(admissions.implode()))
        mine = moments(mine, table.name, tally, "chartdate", "charttime")
        date_only = pl.col("charttime").is_null()
        time = pl.coalesce("charttime", "chartdate")
        known = pl.when(date_only).then(time + _DAY).otherwise(time)
        made = mine.select(
            "hadm_id", time=time, known_at=known, specimen="spec_type_desc", date_only=date_only
        )
        parts.append(
            tally.leave_out(made, pl.col("time").is_null(), "microbiologyevents: without a date")
        )
    return pl.concat(parts).unique().sort(list(_TAKEN))


def cultures(taken: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The cultures of the stays' admissions, for each of their stays."""
    mine = stays.select("stay_id", "hadm_id").join(taken, on="hadm_id")
    return mine.select(list(CULTURES)).cast(pl.Schema(CULTURES)).sort(list(CULTURES))


def ordered_antibiotics(orders: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """The orders of anti-infectives of the stays' admissions, for each of their stays; columns ``ANTIBIOTICS``."""
    mine = stays.select("stay_id", "hadm_id").join(
        orders.filter(pl.col("drug").is_in(anti_infectives())), on="hadm_id"
    )
    return mine.select(
        *("stay_id", "drug", pl.col("first").alias("time"), "end"),
        known_at=pl.col("first") + _DAY,
        route="route",
        source=pl.lit("prescriptions"),
        date_only=True,
    ).cast(pl.Schema(ANTIBIOTICS))


def given_antibiotics(given: pl.DataFrame, stays: pl.DataFrame, source: str) -> pl.DataFrame:
    """Anti-infectives that were charted as given in any unit stay of the admission; columns ``ANTIBIOTICS``."""
    mine = given.filter(pl.col("drug").is_in(anti_infectives()))
    admission = stays.select("stay_id", "hadm_id")
    mine = mine.join(admission, on="stay_id").drop("stay_id").join(admission, on="hadm_id")
    return mine.select(
        *("stay_id", "drug", pl.col("start").alias("time"), "end", "known_at"),
        route=pl.lit("intravenous"),
        source=pl.lit(source),
        date_only=False,
    ).cast(pl.Schema(ANTIBIOTICS))


def anti_infectives() -> list[str]:
    """The catalogue's drugs of ``GROUPS``."""
    return [name for name, drug in catalogue.drugs().items() if drug.group in GROUPS]


def ordered_treatments(orders: pl.DataFrame, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Orders as treatments, without a dose, as far as they meet the stay.

    Left out: ways that treat a surface, and drugs whose giving the stay's chart system charts
    itself.
    """
    charted = (
        items()
        .filter(pl.col("kind") == "drug")
        .select(pl.col("name").alias("drug"), site="system", charted=True)
    )
    rows = stays.select("stay_id", "hadm_id", "site", "admitted_at", "discharged_at").join(
        orders, on="hadm_id"
    )
    rows = rows.filter(
        pl.col("first") < pl.col("discharged_at"), pl.col("end") > pl.col("admitted_at")
    )
    rows = tally.leave_out(
        rows, pl.col("route").is_in(SURFACES), "prescriptions: not for the whole body"
    )
    rows = rows.join(charted.unique(), on=["drug", "site"], how="left")
    rows = tally.leave_out(rows, pl.col("charted"), "prescriptions: drugs whose giving is charted")
    start = pl.max_horizontal("first", "admitted_at")
    made = rows.select(
        "stay_id",
        "drug",
        start=start,
        end=pl.min_horizontal("end", "discharged_at"),
        known_at=pl.max_horizontal(pl.col("first") + _DAY, start),
        dose=pl.lit(None),
        unit=pl.lit(None),
    )
    return made.cast(pl.Schema(TREATMENTS)).unique()
