"""The simulated ward as a source, and the ground truth beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.special import logit

from flowsheet.cohort.sources.base import Source
from flowsheet.cohort.sources.simulated import true_curves
from flowsheet.cohort.sources.simulated.data_generating_process import (
    DRUGS,
    ResponseModel,
    WardOptions,
)
from flowsheet.cohort.sources.simulated.dynamics import draw_patients, simulate_trajectory
from flowsheet.testing.sources import SourceConformance
from tests.cohort.sources.simulated.conftest import TABLES, collect_tables, make_ward


class TestConformance(SourceConformance):
    def make_source(self, folder: Path) -> Source:
        return make_ward(stays=12)


@pytest.mark.parametrize("stays", [1, 499, 500, 501])
def test_a_larger_ward_keeps_the_stays_of_a_smaller_one(ward_tables, stays: int):
    is_in_smaller = pl.col("stay_id") <= stays
    for name, table in collect_tables(make_ward(stays=stays)).items():
        assert_frame_equal(table, ward_tables[name].filter(is_in_smaller))
    oracle = make_ward(stays=600).oracle()
    assert_frame_equal(make_ward(stays=stays).oracle(), oracle.filter(is_in_smaller))


def test_the_state_may_have_another_name():
    named = make_ward(stays=12, response_name="aki")
    assert named.responses == ("aki",)
    assert make_ward(stays=12).responses == ("sepsis",)
    tables, plain = collect_tables(named), collect_tables(make_ward(stays=12))
    assert set(tables["episodes"]["response"]) == {"aki"}
    for name in TABLES:
        renamed = tables[name]
        if name == "episodes":
            renamed = renamed.with_columns(response=pl.lit("sepsis"))
        assert_frame_equal(renamed, plain[name])


def test_another_seed_gives_another_ward(ward_tables):
    other = collect_tables(make_ward(stays=600, seed=2))
    for name in TABLES:
        assert not other[name].equals(ward_tables[name]), name


def test_tables_are_in_the_order_of_the_contract(ward_tables):
    events = ward_tables["events"]
    treatments = ward_tables["treatments"]
    episodes = ward_tables["episodes"]
    keys = ("stay_id", "time", "variable", "known_at")
    assert events.equals(events.sort(*keys, maintain_order=True))
    assert treatments.equals(treatments.sort("stay_id", "start", "drug", maintain_order=True))
    assert episodes.equals(episodes.sort("stay_id", "onset"))


def test_the_oracle_has_every_step_of_every_stay(ward_tables):
    oracle = make_ward(stays=600).oracle()
    lengths = ward_tables["stays"].select(
        "stay_id", "admitted_at", length=pl.col("discharged_at") - pl.col("admitted_at")
    )
    steps = oracle.group_by("stay_id").agg(pl.len(), last=pl.col("time").max())
    steps = steps.join(lengths, on="stay_id")
    assert (steps["len"] == steps["length"].dt.total_days()).all()
    assert (steps["last"] == steps["admitted_at"] + steps["length"]).all()
    assert oracle["probability"].is_between(0, 1).all()


def test_no_table_contains_the_oracle(ward_tables):
    oracle = make_ward(stays=600).oracle()
    columns = {column for table in ward_tables.values() for column in table.columns}
    assert "probability" not in columns
    assert not set(oracle["probability"]) & set(ward_tables["events"]["value"])


def test_the_fingerprint_depends_on_the_version_alone():
    assert make_ward(stays=5).fingerprint() == make_ward(stays=50, seed=3).fingerprint()


def test_true_curves_equal_the_difference_that_a_drug_makes_to_the_logits():
    """Simulate with and without the effect of hydrocortisone, everything else equal."""
    options = WardOptions(max_steps=40, response=ResponseModel(persistence=0.0, physiology={}))
    # norepinephrine depends on the response, which would make the doses differ
    norepinephrine = options.drugs["norepinephrine"].model_copy(update={"when_septic": 0.0})
    drugs = {**options.drugs, "norepinephrine": norepinephrine}
    no_effect = options.drugs["hydrocortisone"].model_copy(update={"effect": 0.0})
    with_effect = options.model_copy(update={"drugs": drugs})
    without = options.model_copy(update={"drugs": {**drugs, "hydrocortisone": no_effect}})

    patients = draw_patients(options, 0)
    one = simulate_trajectory(with_effect, patients, 0)
    other = simulate_trajectory(without, patients, 0)
    np.testing.assert_array_equal(one.doses, other.doses)

    curve = true_curves(options).filter(drug="hydrocortisone")["effect"].to_numpy()
    doses = one.doses[..., list(options.drugs).index("hydrocortisone")]
    expected = np.stack([np.convolve(row, curve)[:40] for row in doses])
    difference = logit(one.probability) - logit(other.probability)
    np.testing.assert_allclose(difference, expected, atol=1e-6)


def test_true_curves_have_every_drug_at_every_lag():
    curves = true_curves(WardOptions(max_steps=50))
    assert curves["drug"].unique(maintain_order=True).to_list() == list(DRUGS)
    lags = curves.group_by("drug").agg(pl.col("lag").sort())["lag"]
    assert lags.to_list() == [list(range(50))] * len(DRUGS)


def test_true_curves_have_the_declared_size_and_shape():
    options = WardOptions(max_steps=50)
    curves = true_curves(options)
    assert (curves.filter(pl.col("drug").is_in(["insulin", "furosemide"]))["effect"] == 0).all()
    vancomycin = options.drugs["vancomycin"]
    effect = curves.filter(drug="vancomycin")["effect"]
    assert effect.abs().arg_max() == vancomycin.curve.peak
    assert effect.min() * vancomycin.reference == pytest.approx(vancomycin.effect)
