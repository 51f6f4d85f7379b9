"""Figures beside the law's: what is the law itself, what is the baseline, and who comes first."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from flowsheet.lifecycle.memory_study import (
    LAW,
    figures,
    judge,
    orders,
)
from flowsheet.lifecycle.memory_study.oracle_bound import Judged
from tests.evaluation.conftest import simulate_predictions, simulate_stays


def judged(seed: int, resamples: int = 60) -> Judged:
    sequences, signal = simulate_stays(seed=seed)
    law = 1 / (1 + np.exp(2.0 - signal))
    told = {
        **simulate_predictions(signal),
        "same": law,
        "base": np.full(len(law), sequences.y.mean()),
    }
    return judge(sequences, told, law, "base", resamples=resamples, seed=seed)


@pytest.fixture(scope="module")
def rounds() -> list[Judged]:
    return [judged(seed) for seed in range(3)]


def test_the_law_is_the_ceiling_and_the_baseline_the_floor(rounds):
    table = figures(rounds, 0.95)
    share = {row["model"]: row for row in table.filter(metric="share").iter_rows(named=True)}
    for name, value in (("same", 1.0), (LAW, 1.0), ("base", 0.0)):
        assert share[name]["value"] == pytest.approx(value)
        assert share[name]["low"] == pytest.approx(value)
    assert (
        share["noisy"]["value"] < 0.5 < share["similar"]["value"] < 1.05
    )  # on few rows luck may beat the law
    assert share["accurate"]["low"] < share["accurate"]["value"] < share["accurate"]["high"]
    assert table["model"].unique(maintain_order=True).to_list()[-1] in ("base", "noisy")
    assert table.filter(model="accurate", metric="auroc")["values"].to_list()[0] == [
        r.figures["accurate", "auroc"] for r in rounds
    ]


def test_the_order_is_told_with_both_intervals(rounds):
    table = orders(
        rounds, [("accurate", "noisy"), ("noisy", "accurate"), ("accurate", "nobody")], 0.95
    )
    assert table.height == 2
    one, two = table.iter_rows(named=True)
    assert one["value"] == pytest.approx(-two["value"])
    assert one["high"] < 0 < two["low"]
    assert one["replicates_low"] < one["value"] < one["replicates_high"]
    assert (one["below"], two["below"]) == (3, 0)
    assert "accurate is lower than that of noisy" in one["sentence"]
    assert "lower in 3 of 3 replicates" in one["sentence"]


def test_the_interval_over_subjects_covers_a_true_difference_of_nothing():
    """Two models that are equally blind: the interval holds 0 about as often as it says."""
    held = 0
    for seed in range(40):
        sequences, signal = simulate_stays(seed=seed, n_subjects=60)
        rng = np.random.default_rng(seed)
        told = {
            name: 1 / (1 + np.exp(2 - rng.normal(size=len(signal)) * 0.5)) for name in ("a", "b")
        }
        told["base"] = np.full(len(signal), 0.1)
        table = orders(
            [judge(sequences, told, told["a"], "base", resamples=80, seed=seed)], [("a", "b")], 0.9
        )
        held += table["low"][0] <= 0 <= table["high"][0]
    assert held >= 29


def test_one_replicate_has_no_spread_between_replicates():
    table = orders([judged(0)], [("accurate", "noisy")], 0.95)
    assert math.isnan(table["replicates_low"][0])
    assert "over replicates" not in table["sentence"][0]


def test_without_resamples_there_are_figures_but_no_intervals():
    table = figures([judged(0, resamples=0)], 0.95)
    assert table["low"].is_nan().all()
    assert table.filter(pl.col("model") == "accurate")["value"].is_finite().all()
