"""Resamples are what they claim to be, and intervals hold what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation.bootstrap import (
    bootstrap,
    difference,
    holm_adjust,
    percentile_interval,
    resample_weights,
)
from flowsheet.evaluation.metrics import METRICS, Needs, ScoredRows

METRIC = [cls() for _, cls in METRICS if cls.needs is not Needs.lead_times]


def clustered(seed=0, subjects=40, rows=400, shift=0.8):
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(0, subjects, rows))
    trait = rng.normal(size=subjects)[subject]
    y = (rng.random(rows) < 1 / (1 + np.exp(1 - trait))).astype(np.int8)
    p = np.round(1 / (1 + np.exp(1 - trait - shift * y + rng.normal(size=rows))), 2)
    step = np.arange(rows) - np.searchsorted(subject, subject) + 1
    return ScoredRows(y, p, subject, subject, step, subjects, p > 0.4, True, 5)


def drawn(scored, weights):
    """The rows of one resample, written out."""
    copies = [(s, c) for s in range(scored.subjects) for c in range(int(weights[s]))]
    parts = [np.flatnonzero(scored.subject == s) for s, _ in copies]
    rows = np.concatenate(parts)
    stay = np.repeat(np.arange(len(copies)), [len(part) for part in parts])
    return ScoredRows(
        *(
            scored.y[rows],
            scored.p[rows],
            stay,
            stay,
            scored.step[rows],
            len(copies),
            scored.alarm[rows],
        ),
        whole_stays=True,
    )


def test_resamples_equal_the_literal_ones():
    scored = clustered()
    found = bootstrap({"model": scored}, METRIC, 6, seed=3)
    weights = np.concatenate(list(resample_weights(scored.subjects, 6, 3, len(scored.y))), axis=1)
    for b in range(6):
        literal = drawn(scored, weights[:, b])
        for metric in METRIC:
            if metric.resampled:
                one_step = metric.name.startswith("calibration")
                tolerance = {"abs": 0.02} if one_step else {"rel": 1e-9}
                assert found["model", metric.name][b] == pytest.approx(
                    metric(literal), **tolerance
                ), metric.name


def test_draws_depend_on_subjects_and_seed_only():
    few = np.concatenate(list(resample_weights(50, 300, 7, rows=100)), axis=1)
    many = np.concatenate(list(resample_weights(50, 300, 7, rows=2_000_000)), axis=1)
    assert np.array_equal(few, many)
    assert np.all(few.sum(axis=0) == 50)
    assert not np.array_equal(
        few, np.concatenate(list(resample_weights(50, 300, 8, rows=100)), axis=1)
    )


def test_the_spread_over_subjects_is_wider_than_over_rows():
    scored = clustered(subjects=20, rows=2000, shift=0.0)
    rows = np.arange(2000)
    loose = ScoredRows(scored.y, scored.p, rows, rows, scored.step, 2000, minimum_events=5)
    spread = {
        name: np.std(bootstrap({0: each}, METRIC, 200, 1)[0, "auroc"])
        for name, each in (("subjects", scored), ("rows", loose))
    }
    assert spread["subjects"] > 2 * spread["rows"]


def test_nothing_is_resampled_where_nothing_is_estimable():
    rows = np.arange(8)
    one_class = ScoredRows(np.zeros(8, np.int8), np.full(8, 0.1), rows, rows, rows, 8)
    assert bootstrap({0: one_class}, METRIC, 10, 1) == {}
    assert bootstrap({0: clustered()}, METRIC, 0, 1) == {}


def test_an_interval_needs_events_in_more_than_a_few_subjects():
    scored = clustered()
    lonely = ScoredRows(
        (scored.subject == 3).astype(np.int8),
        scored.p,
        scored.subject,
        scored.stay,
        scored.step,
        40,
    )
    low, high = percentile_interval(bootstrap({0: lonely}, METRIC, 200, 1)[0, "auroc"], 0.95)
    assert math.isnan(low)
    assert math.isnan(high)


def test_equal_models_do_not_differ():
    draws = bootstrap({0: clustered()}, METRIC, 50, 1)[0, "auroc"]
    found = difference(0.0, draws - draws, 40, 0.95)
    assert (found.low, found.high, found.p) == (0, 0, 1)


def test_a_difference_without_draws_is_not_estimable():
    assert math.isnan(difference(0.1, None, 40, 0.95).p)
    assert math.isnan(difference(0.1, np.ones(5), 1, 0.95).p)


def test_the_interval_of_a_difference_leaves_out_zero_exactly_when_it_counts():
    draws = np.random.default_rng(0).normal(size=400)
    for value in np.linspace(-3, 3, 61):
        found = difference(value, draws, 30, 0.95)
        assert (found.low <= 0 <= found.high) == (found.p >= 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed):
    from statsmodels.stats.multitest import multipletests

    p = np.round(np.random.default_rng(seed).random(12) ** 3, 2).tolist()
    assert holm_adjust(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_what_is_not_estimable_is_no_comparison(p):
    corrected = holm_adjust([math.nan, *p, math.nan])
    assert math.isnan(corrected[0])
    assert math.isnan(corrected[-1])
    assert corrected[1:-1] == holm_adjust(p)
    assert all(after >= before for after, before in zip(holm_adjust(p), p, strict=True))


def contest(rng, noise, subjects=200):
    """Two models that see the same signal through noises of their own, on subjects with eight rows each."""
    subject = np.repeat(np.arange(subjects), 8)
    signal = rng.normal(size=subjects)[subject] + rng.normal(size=len(subject))
    y = (rng.random(len(subject)) < 1 / (1 + np.exp(2 - 1.5 * signal))).astype(np.int8)
    step = np.tile(np.arange(1, 9), subjects)
    views = [signal + rng.normal(size=len(subject)) * s for s in noise]
    return [
        ScoredRows(y, 1 / (1 + np.exp(2 - view)), subject, subject, step, subjects)
        for view in views
    ]


def repeated(noise, times, resamples=200):
    """The differences by AUROC of many repetitions."""
    auroc = METRICS.get("auroc")()
    for i in range(times):
        a, b = contest(np.random.default_rng([i, 77]), noise)
        draws = bootstrap({"a": a, "b": b}, [auroc], resamples, seed=i)
        yield difference(
            auroc(a) - auroc(b), draws["a", "auroc"] - draws["b", "auroc"], a.subjects, 0.95
        )


@pytest.mark.slow
def test_intervals_of_differences_cover_the_truth():
    auroc = METRICS.get("auroc")()
    a, b = contest(np.random.default_rng(1), (0.5, 1.0), subjects=60_000)
    truth = auroc(a) - auroc(b)
    inside = [each.low <= truth <= each.high for each in repeated((0.5, 1.0), 600)]
    assert 0.93 <= np.mean(inside) <= 0.98


@pytest.mark.slow
def test_equal_models_are_seldom_called_different():
    called = [each.p < 0.05 for each in repeated((0.7, 0.7), 300)]
    assert np.mean(called) <= 0.07
