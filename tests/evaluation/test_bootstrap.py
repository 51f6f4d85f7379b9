"""Resamples equal repeated rows, and intervals have the coverage that they claim."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.evaluation import bootstrap as bootstrap_module
from flowsheet.evaluation.bootstrap import (
    ResamplePart,
    bootstrap,
    estimate_difference,
    holm_adjust,
    percentile_interval,
    resample_weights,
)
from flowsheet.evaluation.metrics import RequiredInput, ScoredRows, get_metric
from tests.evaluation.metrics.helpers import default_metrics

OF_OTHER_ROWS = {
    *(RequiredInput.lead_times, RequiredInput.onsets, RequiredInput.clock),
    RequiredInput.step_hours,
}
METRICS_OF_ROWS = [metric for metric in default_metrics() if metric.requires not in OF_OTHER_ROWS]


def clustered_rows(seed=0, n_subjects=40, n_rows=400, effect=0.8):
    """Rows of subjects with different risks; one stay a subject."""
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(0, n_subjects, n_rows))
    risk = rng.normal(size=n_subjects)[subject]
    y = (rng.random(n_rows) < 1 / (1 + np.exp(1 - risk))).astype(np.int8)
    p = np.round(1 / (1 + np.exp(1 - risk - effect * y + rng.normal(size=n_rows))), 2)
    step = np.arange(n_rows) - np.searchsorted(subject, subject) + 1
    return ScoredRows(
        y,
        p,
        subject,
        subject,
        step,
        n_subjects,
        is_alert=p > 0.4,
        has_whole_stays=True,
        minimum_events=5,
    )


def repeat_rows(scored, weights):
    """The rows of one resample, written out: every copy is its own subject."""
    copies = [s for s in range(scored.n_subjects) for _ in range(int(weights[s]))]
    parts = [np.flatnonzero(scored.subject == s) for s in copies]
    rows = np.concatenate(parts)
    stay = np.repeat(np.arange(len(copies)), [len(part) for part in parts])
    return ScoredRows(
        scored.y[rows],
        scored.p[rows],
        stay,
        stay,
        scored.step[rows],
        len(copies),
        is_alert=scored.is_alert[rows],
        has_whole_stays=True,
    )


def test_resamples_equal_repeated_rows():
    scored = clustered_rows()
    draws = bootstrap({"model": scored}, METRICS_OF_ROWS, 6, seed=3)
    weights = np.concatenate(list(resample_weights(40, 6, 3)), axis=1)
    for b in range(6):
        repeated = repeat_rows(scored, weights[:, b])
        for metric in METRICS_OF_ROWS:
            if metric.has_interval:
                is_one_step_fit = metric.name.startswith("calibration")
                tolerance = {"abs": 0.02} if is_one_step_fit else {"rel": 1e-9}
                expected = pytest.approx(metric(repeated), **tolerance)
                assert draws["model", metric.name][b] == expected, metric.name


def test_draws_depend_on_subjects_and_seed_only():
    weights, again = (np.concatenate([*resample_weights(50, 300, 7)], axis=1) for _ in range(2))
    other_seed = np.concatenate([*resample_weights(50, 300, 8)], axis=1)
    assert np.array_equal(weights, again)
    assert np.all(weights.sum(axis=0) == 50)
    assert not np.array_equal(weights, other_seed)


def test_batches_of_many_subjects_have_fewer_resamples_and_the_same_draws(monkeypatch):
    expected = np.concatenate([*resample_weights(50, 9, 7)], axis=1)
    monkeypatch.setattr(bootstrap_module, "MAX_BATCH_CELLS", 200)
    batches = [*resample_weights(50, 9, 7)]
    assert [batch.shape[1] for batch in batches] == [4, 4, 1]
    assert np.array_equal(np.concatenate(batches, axis=1), expected)
    parts = [[*resample_weights(50, 9, 7, ResamplePart(i, 2))] for i in range(2)]
    assert np.array_equal(np.concatenate([*parts[0], *parts[1]], axis=1), expected)


@pytest.mark.parametrize("cells", [1, 1_000, 10_000])
def test_values_do_not_depend_on_how_many_resamples_are_counted_at_a_time(cells, monkeypatch):
    scored = {"model": replace(clustered_rows(), clock=clustered_rows(effect=0.2))}
    expected = bootstrap(scored, default_metrics(), 150, seed=3)
    monkeypatch.setattr(bootstrap_module, "MAX_PART_CELLS", cells)
    values = bootstrap(scored, default_metrics(), 150, seed=3)
    assert values.keys() == expected.keys()
    for key, drawn in values.items():
        assert drawn == pytest.approx(expected[key], rel=1e-12, nan_ok=True), key


def test_the_variance_over_subjects_is_larger_than_over_independent_rows():
    clustered = clustered_rows(n_subjects=20, n_rows=2000, effect=0.0)
    rows = np.arange(2000)
    independent = ScoredRows(
        clustered.y, clustered.p, rows, rows, clustered.step, 2000, minimum_events=5
    )
    by_subject, by_row = (
        np.std(bootstrap({0: scored}, METRICS_OF_ROWS, 200, 1)[0, "auroc"])
        for scored in (clustered, independent)
    )
    assert by_subject > 2 * by_row


def test_nothing_is_resampled_where_nothing_is_estimable():
    rows = np.arange(8)
    one_class = ScoredRows(np.zeros(8, np.int8), np.full(8, 0.1), rows, rows, rows, 8)
    assert bootstrap({0: one_class}, METRICS_OF_ROWS, 10, 1) == {}
    assert bootstrap({0: clustered_rows()}, METRICS_OF_ROWS, 0, 1) == {}


def test_events_of_a_single_subject_give_no_interval():
    scored = clustered_rows()
    is_event = (scored.subject == 3).astype(np.int8)
    single = ScoredRows(is_event, scored.p, scored.subject, scored.stay, scored.step, 40)
    draws = bootstrap({0: single}, METRICS_OF_ROWS, 200, 1)[0, "auroc"]
    assert np.isnan(percentile_interval(draws, 0.95)).all()


def test_a_model_does_not_differ_from_itself():
    draws = bootstrap({0: clustered_rows()}, METRICS_OF_ROWS, 50, 1)[0, "auroc"]
    difference = estimate_difference(0.0, draws - draws, 40, 0.95)
    assert (difference.low, difference.high, difference.p) == (0, 0, 1)


def test_a_difference_without_draws_is_not_estimable():
    assert math.isnan(estimate_difference(0.1, None, 40, 0.95).p)
    assert math.isnan(estimate_difference(0.1, np.ones(5), 1, 0.95).p)


def test_the_interval_of_a_difference_excludes_zero_exactly_when_it_is_significant():
    draws = np.random.default_rng(0).normal(size=400)
    for value in np.linspace(-3, 3, 61):
        difference = estimate_difference(value, draws, 30, 0.95)
        assert (difference.low <= 0 <= difference.high) == (difference.p >= 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed):
    from statsmodels.stats.multitest import multipletests

    p = np.round(np.random.default_rng(seed).random(12) ** 3, 2).tolist()
    assert holm_adjust(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_what_is_not_estimable_is_not_counted_as_a_comparison(p):
    adjusted = holm_adjust([math.nan, *p, math.nan])
    assert math.isnan(adjusted[0])
    assert math.isnan(adjusted[-1])
    assert adjusted[1:-1] == holm_adjust(p)
    assert all(after >= before for after, before in zip(holm_adjust(p), p, strict=True))


def simulate_pair(rng, errors, n_subjects=200):
    """Two models that see the same signal with errors of their own; eight rows a subject."""
    subject = np.repeat(np.arange(n_subjects), 8)
    signal = rng.normal(size=n_subjects)[subject] + rng.normal(size=len(subject))
    y = (rng.random(len(subject)) < 1 / (1 + np.exp(2 - 1.5 * signal))).astype(np.int8)
    step = np.tile(np.arange(1, 9), n_subjects)
    pair = []
    for error in errors:
        log_odds = signal + rng.normal(size=len(subject)) * error - 2
        pair.append(ScoredRows(y, 1 / (1 + np.exp(-log_odds)), subject, subject, step, n_subjects))
    return pair


def repeat_comparison(errors, times, resamples=200):
    """The differences in AUROC of many simulated comparisons."""
    auroc = get_metric("auroc")
    for i in range(times):
        a, b = simulate_pair(np.random.default_rng([i, 77]), errors)
        draws = bootstrap({"a": a, "b": b}, [auroc], resamples, seed=i)
        draws_of_difference = draws["a", "auroc"] - draws["b", "auroc"]
        yield estimate_difference(auroc(a) - auroc(b), draws_of_difference, a.n_subjects, 0.95)


@pytest.mark.slow
def test_intervals_of_differences_cover_the_true_difference():
    auroc = get_metric("auroc")
    a, b = simulate_pair(np.random.default_rng(1), (0.5, 1.0), n_subjects=60_000)
    true_difference = auroc(a) - auroc(b)
    differences = repeat_comparison((0.5, 1.0), 600)
    covered = [d.low <= true_difference <= d.high for d in differences]
    assert 0.93 <= np.mean(covered) <= 0.98


@pytest.mark.slow
def test_equal_models_are_rarely_called_different():
    is_significant = [d.p < 0.05 for d in repeat_comparison((0.7, 0.7), 300)]
    assert np.mean(is_significant) <= 0.07
