"""Treatments of some stays out of INPUTEVENTS_MV and INPUTEVENTS_CV.

MetaVision charts each stretch of an infusion with its start, end and rate. CareVue charts a rate
from time to time: it lasts until the next one of the same item, at most ``carevue_rate_hours``.
Doses become the catalogue's unit, as an amount or per hour. For doses per kg, the weight is that of
the row (MetaVision) or the last one that was known by then (CareVue).
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

import numpy as np
import polars as pl

from flowsheet.cohort import catalogue
from flowsheet.cohort.rules import WEIGHT_KG
from flowsheet.cohort.schema import TREATMENTS, empty_table
from flowsheet.cohort.sources.mimic3.exclusions import ExclusionLog
from flowsheet.cohort.sources.mimic3.input_reader import spell_unit
from flowsheet.cohort.sources.mimic3.item_map import load_items
from flowsheet.cohort.sources.mimic3.options import Mimic3Options
from flowsheet.cohort.sources.mimic3.sorting import equals_previous, sort_by_packed_key


def build_treatments(
    metavision: pl.DataFrame,
    carevue: pl.DataFrame,
    weights: pl.DataFrame,
    options: Mimic3Options,
    log: ExclusionLog,
) -> pl.DataFrame:
    """Build the contract's treatments of some stays, not yet clipped to the stays.

    Args:
        metavision: spilled rows of INPUTEVENTS_MV with ``stay_id``.
        carevue: spilled rows of INPUTEVENTS_CV with ``stay_id``.
        weights: events of the variable ``weight``, in kg.
        options: ``carevue_rate_hours`` and ``default_weight_kg``.
        log: receives the excluded rows.

    Returns:
        Columns ``TREATMENTS``.
    """
    parts = [empty_table("treatments")]
    if metavision.height:
        parts.append(_convert_doses(_prepare_metavision(metavision, log), options, log))
    if carevue.height:
        inputs = _add_last_weight(_prepare_carevue(carevue, options, log), weights)
        parts.append(_convert_doses(inputs, options, log))
    return pl.concat(parts)


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


def _prepare_metavision(rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """The rows with start, end, known_at, number, uom and weight."""
    hours = (pl.col("endtime") - pl.col("starttime")).dt.total_seconds() / 3600
    is_single_dose = pl.col("is_single_dose") | (hours <= 0)
    mean_rate = pl.when(hours > 0).then(pl.col("amount") / hours)
    has_rate = ~is_single_dose & pl.col("rate").is_not_null() & (pl.col("rateuom") != "")
    number = pl.when(has_rate).then("rate").when(is_single_dose).then("amount").otherwise(mean_rate)
    inputs = rows.with_columns(
        start="starttime",
        end=pl.when(is_single_dose).then("starttime").otherwise("endtime"),
        known_at=pl.max_horizontal("starttime", "storetime"),
        number=number,
        uom=pl.when(has_rate).then("rateuom").otherwise("amountuom"),
        weight="patientweight",
    )
    return log.exclude(inputs, pl.col("number") <= 0, "inputevents_mv: no positive amount or rate")


def _prepare_carevue(rows: pl.DataFrame, options: Mimic3Options, log: ExclusionLog) -> pl.DataFrame:
    """The rows with start, end, known_at, number and uom: single doses, then infusions."""
    rows = rows.with_columns(known_at=pl.max_horizontal("charttime", "storetime"))
    amounts = rows.filter(pl.col("rate").is_null() & pl.col("amount").is_not_null())
    amounts = log.exclude(amounts, pl.col("amount") <= 0, "inputevents_cv: no positive amount")
    rates = rows.filter(pl.col("rate").is_not_null() | pl.col("is_stop"))
    rates = rates.with_columns(pl.when("is_stop").then(0.0).otherwise("rate").alias("rate"))
    rates = _keep_highest_rates(rates, log)
    amounts = _exclude_sums_of_rates(amounts, rates, options, log)
    amounts = amounts.with_columns(
        start="charttime", end="charttime", number="amount", uom="amountuom"
    )
    longest = pl.duration(seconds=round(options.carevue_rate_hours * 3600))
    next_rate = pl.col("charttime").shift(-1).over("stay_id", "code")
    end = pl.min_horizontal(next_rate, pl.col("charttime") + longest)
    rates = rates.with_columns(start="charttime", end=end, number="rate", uom="rateuom")
    return pl.concat([amounts, rates.filter(pl.col("rate") > 0)])


def _keep_highest_rates(rates: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """One rate per stay, item and time: the highest; sorted by them."""
    keys = ["stay_id", "code", "charttime"]
    rates = rates.sort(
        *(*keys, "rate", "rateuom", "known_at"),
        descending=[False, False, False, True, True, False],
    )
    is_lower = pl.all_horizontal(pl.col(key) == pl.col(key).shift(1) for key in keys)
    reason = "inputevents_cv: lower of several rates charted at one time"
    return log.exclude(rates, is_lower, reason)


def _exclude_sums_of_rates(
    amounts: pl.DataFrame, rates: pl.DataFrame, options: Mimic3Options, log: ExclusionLog
) -> pl.DataFrame:
    """Exclude amounts that only sum up an infusion whose rate is charted.

    Args:
        amounts: rows with an amount and no rate.
        rates: rows with a rate.
        options: ``carevue_rate_hours``, how long a rate lasts.
        log: receives the excluded rows.
    """
    rate_times = rates.select("stay_id", "code", "charttime", _rate_time="charttime")
    matched = amounts.sort("charttime").join_asof(
        rate_times.sort("charttime"),
        on="charttime",
        by=["stay_id", "code"],
        tolerance=timedelta(hours=options.carevue_rate_hours),
        check_sortedness=False,
    )
    has_rate = pl.col("_rate_time").is_not_null()
    reason = "inputevents_cv: amount of an infusion whose rate is charted"
    return log.exclude(matched, has_rate, reason).drop("_rate_time")


def _add_last_weight(rows: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """The rows with ``weight``, the last one that was in the record at their start."""
    known = weights.select("stay_id", start="known_at", weight="value").sort("start", "weight")
    return rows.sort("start").join_asof(known, on="start", by="stay_id", check_sortedness=False)


def _convert_doses(rows: pl.DataFrame, options: Mimic3Options, log: ExclusionLog) -> pl.DataFrame:
    """Convert doses to the catalogue's unit; null where the charted unit is of another kind."""
    rows = rows.join(_load_target_units(), on="code", maintain_order="left")
    rows = rows.join(catalogue.mimic3_units(), on="uom", how="left", maintain_order="left")
    is_same_kind = pl.col("kind") == pl.col("target_kind")
    is_running = pl.col("end") > pl.col("start")
    is_valid = is_same_kind & ((~is_running & pl.col("per_hour").is_null()) | is_running)
    dose = (
        pl.col("number")
        * pl.col("size")
        / pl.col("target_size")
        * pl.col("per_hour").fill_null(1.0)
        * _make_weight_factor(rows, is_same_kind, options, log)
    )
    treatments = rows.with_columns(dose=pl.when(is_valid).then(dose))
    treatments = _check_rates(treatments, log)
    return treatments.select(list(TREATMENTS)).cast(pl.Schema(TREATMENTS))


def _check_rates(rows: pl.DataFrame, log: ExclusionLog) -> pl.DataFrame:
    """Correct or remove impossible rates of infusions; the infusions remain.

    CareVue's vasopressin is charted in U/min, but some rates are per hour: those that are possible
    only then. Other rates above the catalogue's highest (such as that of a row which ends an
    infusion after a minute with what was left) become null.
    """
    is_running = pl.col("end") > pl.col("start")
    per_hour = (pl.col("drug") == "vasopressin") & (pl.col("uom") == "umin")
    is_high = (is_running & (pl.col("dose") > pl.col("max_rate"))).fill_null(value=False)
    corrected = pl.when(is_high & per_hour).then(pl.col("dose") / 60).otherwise("dose")
    n_corrected = rows.select((is_high & per_hour).sum()).item()
    rows = rows.with_columns(corrected.alias("dose"))
    n_high = rows.select(is_high.sum()).item()
    reasons = {
        "inputevents_cv: vasopressin per hour, charted per minute (rows kept)": n_corrected,
        "rates above the highest of the drug: dose unknown (rows kept)": n_high,
    }
    for reason, n in reasons.items():
        if n:
            log.counts[reason] += n
    return rows.with_columns(pl.when(~is_high).then("dose").alias("dose"))


def _make_weight_factor(
    rows: pl.DataFrame, is_same_kind: pl.Expr, options: Mimic3Options, log: ExclusionLog
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


@lru_cache(maxsize=1)
def _load_target_units() -> pl.DataFrame:
    """(code, drug, unit, target_kind, target_size, target_per_kg): the catalogue's unit by item."""
    drugs = load_items().select("code", drug="name")
    units = catalogue.drug_units().rename({"known_unit": "unit"})
    details = catalogue.mimic3_units().select(
        _spelling="uom", target_kind="kind", target_size="size", target_per_kg="per_kg"
    )
    targets = drugs.join(units, on="drug").with_columns(spell_unit("unit").alias("_spelling"))
    return targets.join(details, on="_spelling", how="left")
