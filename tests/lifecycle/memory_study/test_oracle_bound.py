"""Metrics relative to the oracle's, over subjects and over replicates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowsheet.lifecycle.memory_study.oracle_bound import (
    ORACLE,
    SHARE,
    ReplicateScores,
    compare_log_losses,
    score_replicate,
    summarize_scores,
)
from tests.evaluation.conftest import simulate_predictions, simulate_stays, to_probability


def simulate_replicate(seed: int, resamples: int = 60) -> ReplicateScores:
    """Scores of three models, of one that equals the oracle, and of a constant baseline."""
    sequences, signal = simulate_stays(seed=seed)
    oracle = to_probability(signal)
    predictions = {
        **simulate_predictions(signal),
        "perfect": oracle,
        "constant": np.full(len(oracle), sequences.y.mean()),
    }
    return score_replicate(
        sequences, predictions, oracle, "constant", resamples=resamples, seed=seed
    )


@pytest.fixture(scope="module")
def replicates() -> list[ReplicateScores]:
    return [simulate_replicate(seed) for seed in range(3)]


@pytest.mark.parametrize(("model", "share"), [("perfect", 1.0), (ORACLE, 1.0), ("constant", 0.0)])
def test_the_oracle_has_share_1_and_the_baseline_0(replicates, model, share):
    scores = summarize_scores(replicates, 0.95).filter(metric=SHARE, model=model)
    row = scores.row(0, named=True)
    assert row["value"] == pytest.approx(share)
    assert row["low"] == pytest.approx(share)


def test_models_lie_between_the_baseline_and_the_oracle(replicates):
    scores = summarize_scores(replicates, 0.95)
    share = {row["model"]: row for row in scores.filter(metric=SHARE).iter_rows(named=True)}
    # with few rows a model may be better than the oracle by chance
    assert share["noisy"]["value"] < 0.5 < share["similar"]["value"] < 1.05
    assert share["accurate"]["low"] < share["accurate"]["value"] < share["accurate"]["high"]
    assert scores["model"].unique(maintain_order=True).to_list()[-1] in ("constant", "noisy")


def test_the_values_of_each_replicate_are_kept(replicates):
    scores = summarize_scores(replicates, 0.95).filter(model="accurate", metric="auroc")
    expected = [replicate.values["accurate", "auroc"] for replicate in replicates]
    assert scores["values"].to_list() == [expected]


def test_pairs_are_compared_with_both_intervals(replicates):
    pairs = [("accurate", "noisy"), ("noisy", "accurate"), ("accurate", "missing")]
    comparisons = compare_log_losses(replicates, pairs, 0.95)
    assert comparisons.height == 2
    lower, higher = comparisons.iter_rows(named=True)
    assert lower["value"] == pytest.approx(-higher["value"])
    assert lower["high"] < 0 < higher["low"]
    assert lower["replicates_low"] < lower["value"] < lower["replicates_high"]
    assert (lower["n_lower"], higher["n_lower"]) == (3, 0)
    assert "accurate is lower than that of noisy" in lower["summary"]
    assert "lower in 3 of 3 replicates" in lower["summary"]


def test_the_interval_over_subjects_covers_a_difference_of_zero():
    """Two models without information: a 90% interval contains 0 in about nine of ten wards."""
    n_covered = 0
    for seed in range(40):
        sequences, signal = simulate_stays(seed=seed, n_subjects=60)
        rng = np.random.default_rng(seed)
        predictions = {
            name: to_probability(rng.normal(size=len(signal)) * 0.5) for name in ("a", "b")
        }
        predictions["constant"] = np.full(len(signal), 0.1)
        scores = score_replicate(
            sequences, predictions, predictions["a"], "constant", resamples=80, seed=seed
        )
        comparison = compare_log_losses([scores], [("a", "b")], 0.9)
        n_covered += comparison["low"][0] <= 0 <= comparison["high"][0]
    assert n_covered >= 29


def test_one_replicate_has_no_interval_over_replicates():
    comparisons = compare_log_losses([simulate_replicate(0)], [("accurate", "noisy")], 0.95)
    assert math.isnan(comparisons["replicates_low"][0])
    assert "over replicates" not in comparisons["summary"][0]


def test_without_resamples_there_are_values_but_no_intervals():
    scores = summarize_scores([simulate_replicate(0, resamples=0)], 0.95)
    assert scores["low"].is_nan().all()
    assert scores.filter(model="accurate")["value"].is_finite().all()
