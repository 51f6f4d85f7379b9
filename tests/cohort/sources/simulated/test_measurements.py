"""How the simulated patients are measured."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.catalogue import ranges
from flowsheet.cohort.sources.simulated.data_generating_process import VARIABLES


def test_septic_patients_are_measured_more_often(ward_tables):
    stays = ward_tables["stays"]
    days = stays.select(
        "stay_id", days=(pl.col("discharged_at") - pl.col("admitted_at")).dt.total_days()
    )
    episodes = ward_tables["episodes"].join(stays.select("stay_id", "discharged_at"), on="stay_id")
    duration = pl.coalesce("end", "discharged_at") - pl.col("onset")
    septic = episodes.group_by("stay_id").agg(septic=duration.dt.total_hours().sum() / 24)
    lactate = ward_tables["events"].filter(variable="lact").group_by("stay_id").len("measured")
    rate = (
        days.join(septic, on="stay_id", how="left")
        .join(lactate, on="stay_id", how="left")
        .fill_null(0)
        .with_columns(is_sick=pl.col("septic") / pl.col("days") > 0.4)
        .group_by("is_sick")
        .agg(rate=pl.col("measured").sum() / pl.col("days").sum())
    )
    rates = dict(rate.iter_rows())
    assert 0.4 < rates[False] < rates[True] < 0.9
    assert rates[True] > 1.2 * rates[False]


def test_values_are_plausible_rounded_and_rarely_at_a_limit(ward_tables):
    events = ward_tables["events"].join(ranges(), on="variable")
    assert events.filter(~pl.col("value").is_between("low", "high")).is_empty()
    # the best score and full saturation are common
    unlimited = events.filter(~pl.col("variable").is_in(["gcs", "o2sat"]))
    is_at_limit = (pl.col("value") <= pl.col("low")) | (pl.col("value") >= pl.col("high"))
    assert unlimited.filter(is_at_limit).is_empty()
    assert (events.filter(variable="hr")["value"] % 1 == 0).all()
    assert set(events["variable"]) == set(VARIABLES)


def test_laboratory_results_are_delayed_and_vital_signs_are_not(ward_tables):
    delay = (pl.col("known_at") - pl.col("time")).dt.total_minutes() / 60
    events = ward_tables["events"].with_columns(delay=delay)
    laboratory = events.filter(variable="lact")["delay"]
    assert laboratory.min() >= 1
    assert laboratory.max() <= 6
    assert laboratory.n_unique() > 100
    assert (events.filter(variable="hr")["delay"] == 0).all()
