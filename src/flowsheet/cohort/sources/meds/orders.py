"""Orders of drugs, and doses that wards gave: codes that name the drug in words.

The drug is found by its name as in the raw tables (``concepts/mimic3_prescriptions.csv``), and so
are its route, in the column ``route`` of the shards, and the events that mean that a dose was
given. A name that tells of drops, inhalations and the like is not used: shards may lack the route.
"""

from __future__ import annotations

import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.engine.database import load_database
from flowsheet.cohort.engine.orders import LOCAL_ROUTES, DrugNames, clip_to_stay, find_route
from flowsheet.cohort.sepsis3.frames import ORDERED
from flowsheet.cohort.sources.meds.codes import DRUGS, CodeMapping
from flowsheet.cohort.sources.meds.shards import ORDER, ROUTE
from flowsheet.cohort.sources.meds.states import allow_ends_at_once

ORDERS = ("order", "order_end", "administration")
_LOCAL_NAMES = r"(?i)inhal|nebul|\botic\b|\bears?\b|drops|vaginal|enema|irrigat|bladder|nasal"


def name_drugs(codes: pl.DataFrame) -> pl.DataFrame:
    """The codes, those of ``ORDERS`` with the catalogue's drug as ``name``.

    Codes of other drugs, and of doses that were not given, are left out: they count as unmapped.

    Args:
        codes: code, kind, name, and ``pattern``, the code of the mapping's line.
    """
    is_order = pl.col("kind").is_in(ORDERS)
    text = pl.col("code").str.strip_prefix(pl.col("pattern").str.strip_suffix("*"))
    orders = codes.filter(is_order).with_columns(_drug=text.str.replace(r"//[^/]*$", ""))
    event = text.str.extract(r"//([^/]*)$", 1).str.to_lowercase()
    is_given = (pl.col("kind") != "administration") | event.is_in(_list_given_events())
    is_systemic = ~pl.col("_drug").str.contains(_LOCAL_NAMES)
    drug = pl.Series("_found", DrugNames().find(orders["_drug"]))
    found = pl.when(is_given & is_systemic).then(drug)
    orders = orders.with_columns(name=pl.coalesce("name", found)).drop_nulls("name")
    return pl.concat([codes.filter(~is_order), orders.select(codes.columns)])


def _list_given_events() -> list[str]:
    """The events of EMAR that mean that a dose was given, in lower case."""
    return list(load_database("mimic4").tables["emar"].keep["event"])


def list_drugs(mapping: CodeMapping) -> tuple[str, ...]:
    """The catalogue's drugs that a mapping may find: by its lines, or by names of orders."""
    names = set(mapping.names(*DRUGS, "order", "administration"))
    if mapping.rows.filter(pl.col("name").is_null(), kind="order").height:
        names |= set(catalogue.mimic3_prescriptions()["drug"])
    return tuple(name for name in catalogue.drugs() if name in names)


def collect_orders(rows: pl.DataFrame) -> pl.DataFrame:
    """(subject_id, drug, time, end, known_at, route, source) of rows of ``ORDERS``.

    An order ends with the next end of the subject's drug, by the same entry (``poe_id``) where the
    shards have it; without one, when it starts. A stop in the minute of a renewed order ends the
    old one. An administration has the route of the last order of the drug before it.
    """
    key = ["subject_id", "name", ORDER]
    rows = rows.with_columns(pl.col(ORDER).fill_null(""))
    ends = rows.filter(kind="order_end").select(*key, "time")
    orders = allow_ends_at_once(rows.filter(kind="order"), ends, key)
    orders = orders.with_columns(find_route(ROUTE).alias("route"), source=pl.lit(ORDERED))
    orders = orders.sort("_from").join_asof(
        ends.rename({"time": "end"}).sort("end"),
        left_on="_from",
        right_on="end",
        by=key,
        strategy="forward",
        check_sortedness=False,
    )
    doses = rows.filter(kind="administration").drop(ROUTE).sort("time")
    routes = orders.drop_nulls("route").select("subject_id", "name", "time", "route").sort("time")
    doses = doses.join_asof(routes, on="time", by=["subject_id", "name"], check_sortedness=False)
    doses = doses.with_columns(end="time", source=pl.lit("emar"))
    columns = ["subject_id", "time", "end", "known_at", "route", "source"]
    both = [part.select(*columns, drug="name") for part in (orders, doses)]
    return pl.concat(both).with_columns(pl.coalesce("end", "time"))


def build_ordered_treatments(
    orders: pl.DataFrame, stays: pl.DataFrame, charted_drugs: tuple[str, ...]
) -> pl.DataFrame:
    """Orders as treatments without a dose, clipped to the stay; columns ``TREATMENTS``.

    Excluded are routes that do not treat the whole patient, and drugs whose administration is
    charted.

    Args:
        orders: as ``collect_orders`` returns them.
        stays: the contract's table.
        charted_drugs: drugs with infusions or doses of their own.
    """
    rows = orders.filter(
        ~pl.col("drug").is_in(charted_drugs),
        ~pl.col("route").is_in(LOCAL_ROUTES).fill_null(value=False),
        source=ORDERED,
    )
    limits = stays.select("stay_id", "subject_id", "admitted_at", "discharged_at")
    rows = rows.join(limits, on="subject_id").filter(
        pl.col("time") < pl.col("discharged_at"), pl.col("end") > pl.col("admitted_at")
    )
    return clip_to_stay(rows.rename({"time": "start"}))
