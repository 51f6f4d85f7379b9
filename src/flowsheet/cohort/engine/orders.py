"""Orders of drugs.

Orders are few once filtered, and stay in memory. An order with dates instead of times starts at
00:00 of its first day, ends at 24:00 of its last, and counts as known from 24:00 of its first.
"""

from __future__ import annotations

import re

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.admissions import ONE_DAY, is_outside_admission, match_admissions
from flowsheet.cohort.engine.database import Database
from flowsheet.cohort.engine.exclusions import OUTSIDE_ADMISSION, ExclusionLog
from flowsheet.cohort.engine.files import RawTable
from flowsheet.cohort.engine.table_reader import stream_table
from flowsheet.cohort.schema import TIME, TREATMENTS

LOCAL_ROUTES = (
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
"""Routes that do not treat the whole patient."""

_ORDERS = {
    "hadm_id": pl.Int64(),
    "order_id": pl.Int64(),  # null: the database has none
    "drug": pl.String(),
    "route": pl.String(),
    "start": TIME,
    "end": TIME,
    "known_at": TIME,
    "date_only": pl.Boolean(),
}


class DrugNames:
    """The catalogue's drugs by the names of orders."""

    def __init__(self) -> None:
        rules = catalogue.mimic3_prescriptions().select("drug", "pattern", "exclude_pattern")
        self._patterns = [
            (drug, re.compile(pattern), re.compile(without or "$^"))
            for drug, pattern, without in rules.iter_rows()
        ]
        self._cache: dict[str, str | None] = {}

    def find(self, names: pl.Series) -> pl.Series:
        """The catalogue's drug of each name; null where there is none."""
        for name in names.drop_nulls().unique():
            if name not in self._cache:
                self._cache[name] = self._search(name.lower())
        return names.replace_strict(self._cache, default=None, return_dtype=pl.String())

    def _search(self, name: str) -> str | None:
        drugs = (
            drug
            for drug, pattern, without in self._patterns
            if pattern.search(name) and not without.search(name)
        )
        return next(drugs, None)


def read_orders(
    table: RawTable | None, admissions: pl.DataFrame, log: ExclusionLog
) -> pl.DataFrame:
    """Read the orders of the catalogue's drugs in some hospital admissions.

    Those that start outside of their admission are rejected.

    Args:
        table: the table; None if the database has none.
        admissions: (subject_id, hadm_id, first, last).
        log: receives the excluded and the rejected rows.

    Returns:
        (hadm_id, order_id, drug, route, start, end, known_at, date_only), sorted.
    """
    if table is None:
        return pl.DataFrame(schema=_ORDERS)
    drug_names = DrugNames()
    name = table.name
    has_dates = "start" in table.spec.dates
    frames = [pl.DataFrame(schema=_ORDERS)]
    for rows in stream_table(table, log):
        orders = match_admissions(table, rows, admissions, pl.col("start"), log)
        is_outside = is_outside_admission(pl.col("start"))
        orders = log.reject(orders, is_outside, name, "start", OUTSIDE_ADMISSION)
        orders = orders.with_columns(drug_names.find(orders["drug"]).alias("drug"))
        is_unmapped = pl.col("drug").is_null()
        reason = f"{name}: drugs that the catalogue does not map"
        orders = log.exclude(orders, is_unmapped, reason)
        has_no_start = pl.col("start").is_null()
        orders = log.exclude(orders, has_no_start, f"{name}: without a first day")
        orders = _fill_whole_days(orders) if has_dates else _order_times(orders)
        orders = orders.with_columns(find_route("route").alias("route"), date_only=has_dates)
        frames.append(orders.select(list(_ORDERS)).cast(pl.Schema(_ORDERS)))
    return pl.concat(frames).unique().sort(list(_ORDERS))


def add_entry_times(
    orders: pl.DataFrame, table: RawTable | None, log: ExclusionLog
) -> pl.DataFrame:
    """The orders, known no earlier than they were entered.

    Args:
        orders: orders with ``order_id``.
        table: the table that tells when; None if there is none.
        log: receives the defects.
    """
    if table is None:
        return orders
    entries = [pl.DataFrame(schema={"order_id": pl.Int64(), "_entered": TIME})]
    ids = orders.select("order_id").drop_nulls().unique()
    for rows in stream_table(table, log):
        known = rows.join(ids, on="order_id", how="semi").drop_nulls("stored_at")
        entries.append(known.select("order_id", _entered="stored_at"))
    first = pl.concat(entries).group_by("order_id").agg(pl.col("_entered").min())
    joined = orders.join(first, on="order_id", how="left", maintain_order="left")
    known_at = pl.max_horizontal("known_at", "_entered")
    return joined.with_columns(known_at=known_at).select(orders.columns)


def _fill_whole_days(orders: pl.DataFrame) -> pl.DataFrame:
    """Orders with dates: from 00:00 of the first day to 24:00 of the last."""
    first = pl.col("start").dt.truncate("1d")
    last = pl.max_horizontal(first, pl.col("end").dt.truncate("1d").fill_null(first))
    return orders.with_columns(start=first, end=last + ONE_DAY, known_at=first + ONE_DAY)


def _order_times(orders: pl.DataFrame) -> pl.DataFrame:
    """Orders with times: none ends before it starts, and none is known before it was entered."""
    known_at = pl.max_horizontal("start", "stored_at")
    return orders.with_columns(end=pl.max_horizontal("start", "end"), known_at=known_at)


def find_route(column: str) -> pl.Expr:
    """The catalogue's route of a column with those of orders; null where none is stated."""
    text = pl.col(column).cast(pl.String).str.strip_chars().str.to_uppercase()
    routes = catalogue.mimic3_routes()
    route = text.replace_strict(routes, default="other", return_dtype=pl.String())
    return pl.when(text != "").then(route)


def build_ordered_treatments(
    orders: pl.DataFrame, stays: pl.DataFrame, database: Database, log: ExclusionLog
) -> pl.DataFrame:
    """Orders as treatments without a dose, clipped to the stay.

    Excluded are routes that do not treat the whole patient, and drugs whose administration is
    charted by the stay's own chart system.

    Args:
        orders: orders by hospital admission.
        stays: the stays, with ``hadm_id``.
        database: the database.
        log: receives the excluded rows.
    """
    table = database.table_of("orders")
    has_systems = "site" in database.tables[database.stay_table].columns
    keys = ["drug", "site"] if has_systems else ["drug"]
    charted_drugs = database.items.drugs.select(keys).unique().with_columns(is_charted=True)
    rows = stays.select("stay_id", "hadm_id", "site", "admitted_at", "discharged_at")
    rows = rows.join(orders, on="hadm_id")
    rows = rows.filter(
        pl.col("start") < pl.col("discharged_at"), pl.col("end") > pl.col("admitted_at")
    )
    is_local = pl.col("route").is_in(LOCAL_ROUTES)
    rows = log.exclude(rows, is_local, f"{table}: not for the whole body")
    rows = rows.join(charted_drugs, on=keys, how="left")
    reason = f"{table}: drugs whose administration is charted"
    rows = log.exclude(rows, pl.col("is_charted"), reason)
    return clip_to_stay(rows)


def clip_to_stay(orders: pl.DataFrame) -> pl.DataFrame:
    """Orders as treatments without a dose, clipped to the stay; columns ``TREATMENTS``.

    ``orders`` has stay_id, drug, start, end, known_at, admitted_at and discharged_at.
    """
    start = pl.max_horizontal("start", "admitted_at")
    treatments = orders.select(
        "stay_id",
        "drug",
        start=start,
        end=pl.min_horizontal("end", "discharged_at"),
        known_at=pl.max_horizontal("known_at", start),
        dose=pl.lit(None),
        unit=pl.lit(None),
    )
    return treatments.cast(pl.Schema(TREATMENTS)).unique()
