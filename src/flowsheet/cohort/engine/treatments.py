"""Treatments of some stays out of tables of infusions and of charted rates.

An infusion has a start, an end and a rate for each of its stretches; ``charted_rates.py`` finds the
end of a charted rate. Doses become the catalogue's unit, as an amount or per hour. For doses per
kg, the weight is that of the row (infusions) or the last one that was known by then (charted
rates).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.completeness import UNKNOWN_DOSE
from flowsheet.cohort.engine.charted_rates import prepare_charted_rates
from flowsheet.cohort.engine.exclusions import ExclusionLog
from flowsheet.cohort.engine.item_map import ItemMap
from flowsheet.cohort.engine.options import DatabaseOptions
from flowsheet.cohort.engine.sorting import equals_previous, sort_by_packed_key
from flowsheet.cohort.rules import WEIGHT_KG
from flowsheet.cohort.schema import TREATMENTS, empty_table
from flowsheet.cohort.units import fold_units

_VASOACTIVE = ("vasopressor", "inotrope")
_SHOWN_CHARACTERS = 20


@dataclass(frozen=True)
class TreatmentBuilder:
    """Builds the contract's treatments of some stays, not yet clipped to the stays."""

    items: ItemMap
    options: DatabaseOptions
    """``charted_rate_hours`` and ``default_weight_kg``."""
    log: ExclusionLog
    """Receives the excluded rows."""

    def build_infusions(self, rows: pl.DataFrame, table: str) -> pl.DataFrame:
        """Treatments out of spilled rows of a table of infusions, with ``stay_id``."""
        if rows.is_empty():
            return empty_table("treatments")
        return self._convert_doses(_prepare_infusions(rows, table, self.log), table)

    def build_charted_rates(
        self, rows: pl.DataFrame, weights: pl.DataFrame, table: str
    ) -> pl.DataFrame:
        """Treatments out of spilled rows of a table of charted rates, with ``stay_id``.

        Args:
            rows: the rows.
            weights: events of the variable ``weight``, in kg.
            table: the table's name.
        """
        if rows.is_empty():
            return empty_table("treatments")
        prepared = prepare_charted_rates(rows, table, self.items, self.options, self.log)
        return self._convert_doses(_add_last_weight(prepared, weights), table)

    def _convert_doses(self, rows: pl.DataFrame, table: str) -> pl.DataFrame:
        """Convert doses to the catalogue's unit; null where the charted unit is another kind's.

        A charted rate has a unit of amount and time: without the time it is unknown.
        """
        rows = rows.join(_load_target_units(self.items), on="code", maintain_order="left")
        rows = rows.join(catalogue.mimic3_units(), on="uom", how="left", maintain_order="left")
        is_same_kind = pl.col("kind") == pl.col("target_kind")
        has_time = pl.col("per_hour").is_not_null()
        is_running = pl.col("end") > pl.col("start")
        is_valid = is_same_kind & pl.when("is_rate").then(has_time).otherwise(
            is_running | ~has_time
        )
        _count_unknown_units(rows, is_valid, table, self.log)
        dose = (
            pl.col("number")
            * pl.col("size")
            / pl.col("target_size")
            * pl.col("per_hour").fill_null(1.0)
            * _make_weight_factor(rows, is_same_kind, self.options, self.log)
        )
        treatments = rows.with_columns(dose=pl.when(is_valid).then(dose))
        treatments = _check_rates(treatments, table, self.log)
        return treatments.select(list(TREATMENTS)).cast(pl.Schema(TREATMENTS))


def _count_unknown_units(
    rows: pl.DataFrame, is_valid: pl.Expr, table: str, log: ExclusionLog
) -> None:
    """Count the doses of vasopressors and inotropes in a unit that does not tell their amount.

    Args:
        rows: doses with drug, number and uom.
        is_valid: whether the charted unit tells the dose in the catalogue's.
        table: the table's name.
        log: receives the number of rows by drug and unit; the rows are kept, without a dose.
    """
    drugs = [name for name, drug in catalogue.drugs().items() if drug.group in _VASOACTIVE]
    is_unknown = ~is_valid.fill_null(value=False) & pl.col("number").is_not_null()
    unknown = rows.filter(pl.col("drug").is_in(drugs), is_unknown)
    unit = pl.col("uom").fill_null("none").str.slice(0, _SHOWN_CHARACTERS)
    for drug, name, n in unknown.group_by("drug", unit).len().sort("drug", "uom").iter_rows():
        log.counts[f"{table}: {UNKNOWN_DOSE}: {drug} in {name} (rows kept)"] += n


def sort_and_dedupe(treatments: pl.DataFrame, stay_ids: pl.Series) -> pl.DataFrame:
    """Treatments in the contract's order, each one once.

    Args:
        treatments: treatments in any order.
        stay_ids: ids of their stays, ascending.
    """
    stay = pl.Series(np.searchsorted(stay_ids.to_numpy(), treatments["stay_id"].to_numpy()))
    drug = treatments["drug"].cast(_make_drug_enum()).to_physical()
    rows = treatments.with_columns(_stay=stay, _drug=drug)

    def drop_repeats(tied: pl.DataFrame) -> pl.DataFrame:
        return tied.filter(~equals_previous(*TREATMENTS))

    tie_columns = ["start", "end", "known_at", "dose", "unit"]
    rows = sort_by_packed_key(rows, ("_stay", "start", "_drug"), tie_columns, drop_repeats)
    return rows.select(list(TREATMENTS))


@lru_cache(maxsize=1)
def _make_drug_enum() -> pl.Enum:
    return pl.Enum(sorted(catalogue.drugs()))


def _prepare_infusions(rows: pl.DataFrame, table: str, log: ExclusionLog) -> pl.DataFrame:
    """The rows with start, end, known_at, number, uom and weight."""
    hours = (pl.col("end") - pl.col("start")).dt.total_seconds() / 3600
    is_single_dose = pl.col("is_single_dose") | (hours <= 0)
    mean_rate = pl.when(hours > 0).then(pl.col("amount") / hours)
    has_rate = ~is_single_dose & pl.col("rate").is_not_null() & (pl.col("rate_unit") != "")
    number = pl.when(has_rate).then("rate").when(is_single_dose).then("amount").otherwise(mean_rate)
    inputs = rows.with_columns(
        end=pl.when(is_single_dose).then("start").otherwise("end"),
        known_at=pl.max_horizontal("start", "stored_at"),
        number=number,
        uom=pl.when(has_rate).then("rate_unit").otherwise("amount_unit"),
        is_rate=has_rate,
    )
    reason = f"{table}: no positive amount or rate"
    return log.exclude(inputs, pl.col("number") <= 0, reason)


def _add_last_weight(rows: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """The rows with ``weight``, the last one that was in the record at their start."""
    known = weights.select("stay_id", start="known_at", weight="value").sort("start", "weight")
    return rows.sort("start").join_asof(known, on="start", by="stay_id", check_sortedness=False)


def _check_rates(rows: pl.DataFrame, table: str, log: ExclusionLog) -> pl.DataFrame:
    """Correct or remove impossible rates of infusions; the infusions remain.

    Vasopressin charted in U/min has some rates that are per hour: those that are possible only
    then. Other rates above the catalogue's highest (such as that of a row which ends an infusion
    after a minute with what was left) become null.
    """
    is_running = pl.col("end") > pl.col("start")
    per_hour = (pl.col("drug") == "vasopressin") & (pl.col("uom") == "umin")
    is_high = (is_running & (pl.col("dose") > pl.col("max_rate"))).fill_null(value=False)
    corrected = pl.when(is_high & per_hour).then(pl.col("dose") / 60).otherwise("dose")
    n_corrected = rows.select((is_high & per_hour).sum()).item()
    rows = rows.with_columns(corrected.alias("dose"))
    n_high = rows.select(is_high.sum()).item()
    reasons = {
        f"{table}: vasopressin per hour, charted per minute (rows kept)": n_corrected,
        "rates above the highest of the drug: dose unknown (rows kept)": n_high,
    }
    for reason, n in reasons.items():
        if n:
            log.counts[reason] += n
    return rows.with_columns(pl.when(~is_high).then("dose").alias("dose"))


def _make_weight_factor(
    rows: pl.DataFrame, is_same_kind: pl.Expr, options: DatabaseOptions, log: ExclusionLog
) -> pl.Expr:
    """The factor between a dose per kg and a dose.

    Args:
        rows: rows with weight, per_kg and target_per_kg.
        is_same_kind: whether the charted unit and the catalogue's are of one kind.
        options: ``default_weight_kg``.
        log: receives the number of rows for which the default weight is taken.
    """
    weight = pl.when(pl.col("weight").is_between(*WEIGHT_KG)).then("weight")
    needs_weight = (pl.col("per_kg") != pl.col("target_per_kg")) & is_same_kind
    n_without_weight = rows.select((needs_weight & weight.is_null()).sum()).item()
    if n_without_weight:
        assumed = f"{options.default_weight_kg:g} kg assumed"
        reason = f"doses per kg without a known weight: {assumed} (rows kept)"
        log.counts[reason] += n_without_weight
    kg = weight.fill_null(options.default_weight_kg)
    is_per_kg = pl.col("per_kg") == 1
    return pl.when(~needs_weight).then(1.0).when(is_per_kg).then(kg).otherwise(1 / kg)


@lru_cache(maxsize=8)
def _load_target_units(items: ItemMap) -> pl.DataFrame:
    """(code, drug, unit, target_kind, target_size, target_per_kg): the catalogue's unit by item."""
    drugs = items.items.select("code", drug="name")
    units = catalogue.drug_units().rename({"known_unit": "unit"})
    details = catalogue.mimic3_units().select(
        _spelling="uom", target_kind="kind", target_size="size", target_per_kg="per_kg"
    )
    targets = drugs.join(units, on="drug").with_columns(
        fold_units(pl.col("unit")).alias("_spelling")
    )
    return targets.join(details, on="_spelling", how="left")
