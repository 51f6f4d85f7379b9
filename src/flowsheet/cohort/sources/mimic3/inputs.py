"""Treatments out of INPUTEVENTS_MV and INPUTEVENTS_CV.

MetaVision tells each stretch of an infusion with begin, end and rate. CareVue charts a rate from
time to time: it holds until the next one of the same item, at most ``carevue_rate_hours``. Doses
become the catalogue's unit, at once or per hour; where weight comes in, it is the one of the row
(MetaVision) or the last that was known by then (CareVue).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import TREATMENTS, empty_table
from flowsheet.cohort.sources.mimic3.events import items
from flowsheet.cohort.sources.mimic3.exclusions import (
    Tally,
    moments,
    numbers,
    whole,
)
from flowsheet.cohort.sources.mimic3.files import RawTable
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.ranking import as_before, in_turn
from flowsheet.cohort.sources.mimic3.reading import Wanted, stream
from flowsheet.cohort.sources.mimic3.stays import Placing
from flowsheet.cohort.spill import Spill

_AT_ONCE = ("drug push", "bolus", "non iv meds")
"""Order categories of what is given at once."""
_STOPS = ("stopped", "d/c'd")
_IDS = ("subject_id", "icustay_id", "itemid")


@dataclass(frozen=True)
class Reader:
    """What both passes need."""

    placing: Placing
    options: Mimic3Options
    tally: Tally
    spill: Spill

    def metavision(self, table: RawTable) -> None:
        """One pass over INPUTEVENTS_MV."""
        for piece in self._pieces(table, "starttime", "endtime", "storetime"):
            rows = numbers(piece, "amount", "rate", "patientweight")
            gone = pl.col("statusdescription").str.to_lowercase() == "rewritten"
            rows = self.tally.leave_out(rows, gone, "inputevents_mv: rewritten")
            rows = rows.with_columns(pl.coalesce("endtime", "starttime"))
            backwards = pl.col("endtime") < pl.col("starttime")
            rows = self.tally.leave_out(rows, backwards, "inputevents_mv: ends before it begins")
            rows = self.placing.place(rows, table.name, "starttime", self.tally)
            self.spill.add(
                "metavision",
                rows.select(*_SPILLED, "starttime", "endtime", "once", "patientweight"),
            )

    def carevue(self, table: RawTable) -> None:
        """One pass over INPUTEVENTS_CV."""
        for piece in self._pieces(table, "charttime", "storetime"):
            rows = numbers(piece, "amount", "rate")
            rows = self.placing.place(rows, table.name, "charttime", self.tally)
            self.spill.add("carevue", rows.select(*_SPILLED, "charttime", "stops"))

    def _pieces(self, table: RawTable, *times: str) -> Iterator[pl.DataFrame]:
        mapped = items().filter(pl.col("table") == table.name)
        wanted = Wanted("itemid", mapped["itemid"].unique())
        for rows in stream(table, self.tally, wanted):
            read = moments(whole(rows, *_IDS), table.name, self.tally, *times)
            flag = "stopped" if "stopped" in rows.columns else "ordercategorydescription"
            word = pl.col(flag).cast(pl.String).str.to_lowercase()
            read = read.join(
                mapped.select("itemid", "code", "convert"), on="itemid", maintain_order="left"
            )
            amount = (
                pl.when(pl.col("convert") == "grams").then(pl.lit("g")).otherwise(_uom("amountuom"))
            )
            yield read.with_columns(
                amount.alias("amountuom"),
                _uom("rateuom"),
                stops=word.is_in(_STOPS),
                once=word.is_in(_AT_ONCE),
            )
        self.tally.unmapped(table.name, wanted.others, wanted.odd)


_SPILLED = ["stay", "code", "storetime", "amount", "amountuom", "rate", "rateuom"]


def _uom(column: str) -> pl.Expr:
    """A unit as the catalogue of units spells it."""
    text = pl.col(column).cast(pl.String).str.to_lowercase()
    return text.str.replace_all(r"[\s.]", "").alias(column)


@lru_cache(maxsize=1)
def _units() -> pl.DataFrame:
    return catalogue.mimic3_units()


def treatments(
    metavision: pl.DataFrame,
    carevue: pl.DataFrame,
    weights: pl.DataFrame,
    options: Mimic3Options,
    tally: Tally,
) -> pl.DataFrame:
    """The spilled rows of some stays as the contract's treatments, with ``itemid``'s ``code``
    beside; not yet clipped.

    ``weights``: events of the variable ``weight``.
    """
    parts = [empty_table("treatments").with_columns(code=pl.lit(None, pl.Int32))]
    if metavision.height:
        parts.append(_finish(_metavision(metavision, tally), options, tally))
    if carevue.height:
        weighed = _with_weight(_carevue(carevue, options, tally), weights)
        parts.append(_finish(weighed, options, tally))
    return pl.concat(parts)


def once(rows: pl.DataFrame, stays: pl.Series) -> pl.DataFrame:
    """Treatments of these stays, whose ids ascend, in the contract's order; of some that say the same, one."""
    stay = pl.Series(np.searchsorted(stays.to_numpy(), rows["stay_id"].to_numpy()))
    placed = rows.with_columns(_stay=stay, _drug=rows["drug"].cast(_drugs()).to_physical())
    rest = ["start", "end", "known_at", "dose", "unit"]

    def thin(tied: pl.DataFrame) -> pl.DataFrame:
        return tied.filter(~as_before(*TREATMENTS))

    return in_turn(placed, ("_stay", "start", "_drug"), rest, thin).select(list(TREATMENTS))


@lru_cache(maxsize=1)
def _drugs() -> pl.Enum:
    return pl.Enum(sorted(catalogue.drugs()))


def _metavision(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    hours = (pl.col("endtime") - pl.col("starttime")).dt.total_seconds() / 3600
    once = pl.col("once") | (hours <= 0)
    spread = pl.when(hours > 0).then(pl.col("amount") / hours)
    rated = ~once & pl.col("rate").is_not_null() & (pl.col("rateuom") != "")
    made = rows.with_columns(
        start="starttime",
        end=pl.when(once).then("starttime").otherwise("endtime"),
        known_at=pl.max_horizontal("starttime", "storetime"),
        number=pl.when(rated).then("rate").when(once).then("amount").otherwise(spread),
        uom=pl.when(rated).then("rateuom").otherwise("amountuom"),
        weight="patientweight",
    )
    return tally.leave_out(made, pl.col("number") <= 0, "inputevents_mv: nothing given")


def _carevue(rows: pl.DataFrame, options: Mimic3Options, tally: Tally) -> pl.DataFrame:
    known = pl.max_horizontal("charttime", "storetime")
    rows = rows.with_columns(known_at=known)
    given = rows.filter(pl.col("rate").is_null() & pl.col("amount").is_not_null())
    given = tally.leave_out(given, pl.col("amount") <= 0, "inputevents_cv: nothing given")
    rated = rows.filter(pl.col("rate").is_not_null() | pl.col("stops"))
    rated = rated.with_columns(pl.when("stops").then(0.0).otherwise("rate").alias("rate"))
    rated = rated.sort(
        "stay_id",
        "code",
        "charttime",
        "rate",
        "rateuom",
        "known_at",
        descending=[False] * 3 + [True] * 2 + [False],
    )
    again = pl.all_horizontal(
        pl.col(c) == pl.col(c).shift(1) for c in ("stay_id", "code", "charttime")
    )
    rated = tally.leave_out(
        rated, again, "inputevents_cv: rates of one moment, the highest is kept"
    )
    given = _beside_rates(given, rated, options, tally)
    given = given.with_columns(start="charttime", end="charttime", number="amount", uom="amountuom")
    holds = pl.col("charttime") + pl.duration(seconds=round(options.carevue_rate_hours * 3600))
    until = pl.min_horizontal(pl.col("charttime").shift(-1).over("stay_id", "code"), holds)
    rated = rated.with_columns(start="charttime", end=until, number="rate", uom="rateuom").filter(
        pl.col("rate") > 0
    )
    return pl.concat([given, rated])


def _beside_rates(
    given: pl.DataFrame, rated: pl.DataFrame, options: Mimic3Options, tally: Tally
) -> pl.DataFrame:
    """Amounts without those that only sum up an infusion whose rate is charted."""
    rates = rated.select("stay_id", "code", "charttime", _rated="charttime").sort("charttime")
    beside = given.sort("charttime").join_asof(
        rates,
        on="charttime",
        by=["stay_id", "code"],
        tolerance=timedelta(hours=options.carevue_rate_hours),
        check_sortedness=False,
    )
    out = pl.col("_rated").is_not_null()
    return tally.leave_out(
        beside, out, "inputevents_cv: amounts of what runs at a charted rate"
    ).drop("_rated")


def _with_weight(rows: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """The last weight that was in the record at the begin."""
    known = weights.select("stay_id", pl.col("known_at").alias("start"), weight="value").sort(
        "start", "weight"
    )
    return rows.sort("start").join_asof(known, on="start", by="stay_id", check_sortedness=False)


def _finish(rows: pl.DataFrame, options: Mimic3Options, tally: Tally) -> pl.DataFrame:
    """The dose in the catalogue's unit; null where it was charted in another kind of unit."""
    wanted = _units().select(unit="uom", kind_wanted="kind", size_wanted="size", wants_kg="per_kg")
    of_item = items().select("code", drug="name")
    unit_of = catalogue.drug_units().rename({"known_unit": "unit"})
    named = of_item.join(unit_of, on="drug").with_columns(_uom("unit").alias("_key"))
    named = named.join(wanted.rename({"unit": "_key"}), on="_key", how="left")
    rows = rows.join(named, on="code", maintain_order="left").join(
        _units(), on="uom", how="left", maintain_order="left"
    )
    weight = pl.when(pl.col("weight").is_between(0.2, 700)).then("weight")
    needs = (pl.col("per_kg") != pl.col("wants_kg")) & (pl.col("kind") == pl.col("kind_wanted"))
    unweighed = rows.select((needs & weight.is_null()).sum()).item()
    if unweighed:
        tally.left_out[
            f"doses by weight with no weight known: {options.default_weight_kg:g} kg taken (kept)"
        ] += unweighed
    kilos = weight.fill_null(options.default_weight_kg)
    by_weight = (
        pl.when(~needs).then(1.0).when(pl.col("per_kg") == 1).then(kilos).otherwise(1 / kilos)
    )
    runs = pl.col("end") > pl.col("start")
    fits = (pl.col("kind") == pl.col("kind_wanted")) & (
        (~runs & pl.col("per_hour").is_null()) | runs
    )
    dose = (
        pl.col("number")
        * pl.col("size")
        / pl.col("size_wanted")
        * pl.col("per_hour").fill_null(1.0)
        * by_weight
    )
    made = rows.with_columns(dose=pl.when(fits).then(dose))
    return made.select(*TREATMENTS, "code").cast(pl.Schema({**TREATMENTS, "code": pl.Int32()}))
