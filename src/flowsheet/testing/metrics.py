"""Conformance tests for metrics: subclass ``MetricConformance`` in a test.

>>> class TestMyMetric(MetricConformance):
...     name = "brier"
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from flowsheet.evaluation.metrics import METRICS, OperatingPointMetric, get_metric
from flowsheet.evaluation.metrics.base import Metric, RequiredInput, Sample, ScoredRows
from flowsheet.typing import Ints

_SUBJECTS = 40


def toy_rows(seed: int, requires: RequiredInput = RequiredInput.probabilities) -> ScoredRows:
    """Scored rows of 40 subjects, with ties, both classes, and what a metric requires.

    Args:
        seed: Of all random numbers.
        requires: ``lead times`` gives one row a stay, the others some rows for each subject.
    """
    rng = np.random.default_rng(seed)
    is_per_stay = requires is RequiredInput.lead_times
    lengths = np.ones(_SUBJECTS, np.int64) if is_per_stay else rng.integers(7, 12, _SUBJECTS)
    subject = np.repeat(np.arange(_SUBJECTS), lengths)
    step = np.concatenate([np.arange(1, n + 1) for n in lengths])
    y = (rng.random(len(subject)) < 0.3).astype(np.int8)
    p = np.clip(np.round(0.1 + 0.2 * y + 0.7 * rng.random(len(subject)), 1), 0.05, 0.95)
    is_alert = p >= 0.5
    hours = rng.integers(1, 48, len(subject)).astype(np.float64)
    rows = ScoredRows(
        y=y,
        p=p,
        subject=subject,
        stay=subject,
        step=step,
        n_subjects=_SUBJECTS,
        is_alert=is_alert,
        has_whole_stays=requires in {RequiredInput.whole_stays, RequiredInput.clock},
        is_per_stay=is_per_stay,
        lead_time=np.where(is_alert & (y == 1), hours, np.nan) if is_per_stay else None,
        has_first_onsets=requires is RequiredInput.onsets,
        step_hours=12.0 if requires is RequiredInput.step_hours else None,
    )
    if requires is not RequiredInput.clock:
        return rows
    by_step = step / 50
    clock = replace(rows, p=by_step, is_alert=by_step >= 0.1)
    return replace(rows, clock=clock)


def _select_subjects(rows: ScoredRows, subjects: Ints) -> ScoredRows:
    """The rows of these subjects in that order; one who comes twice becomes two subjects."""
    own_rows = [np.flatnonzero(rows.subject == subject) for subject in subjects]
    index = np.concatenate(own_rows)
    subject = np.repeat(np.arange(len(subjects)), [len(own) for own in own_rows])
    return ScoredRows(
        y=rows.y[index],
        p=rows.p[index],
        subject=subject,
        stay=subject,
        step=rows.step[index],
        n_subjects=len(subjects),
        is_alert=None if rows.is_alert is None else rows.is_alert[index],
        has_whole_stays=rows.has_whole_stays,
        is_per_stay=rows.is_per_stay,
        lead_time=None if rows.lead_time is None else rows.lead_time[index],
        has_first_onsets=rows.has_first_onsets,
        step_hours=rows.step_hours,
        clock=None if rows.clock is None else _select_subjects(rows.clock, subjects),
    )


class MetricConformance:
    """The contract of ``Metric`` as tests.

    Set ``name`` to the metric's name, with the operating point where it takes one: ``auroc``,
    ``ppv_at_alert_rate_5``.
    """

    name: ClassVar[str]
    is_exact: ClassVar[bool] = True
    """False: weights are an approximation, as with bins that are quantiles of the rows."""

    @pytest.fixture
    def metric(self) -> Metric:
        """The metric of that name."""
        return get_metric(self.name)

    @pytest.fixture
    def rows(self, metric: Metric) -> ScoredRows:
        """Rows from which it can be computed."""
        return toy_rows(1, metric.requires)

    def test_it_has_the_name_under_which_it_is_registered(self, metric: Metric) -> None:
        """And a label for people."""
        family = metric.family if isinstance(metric, OperatingPointMetric) else metric.name
        assert METRICS.get(family) is type(metric)
        assert metric.name == self.name
        assert metric.label

    def test_it_is_applicable_and_finite(self, metric: Metric, rows: ScoredRows) -> None:
        """On rows with both classes and all that it requires."""
        assert metric.is_applicable(rows)
        assert np.isfinite(metric(rows))

    def test_without_both_classes_it_is_not_estimable(
        self, metric: Metric, rows: ScoredRows
    ) -> None:
        """NaN, not an error and not 0."""
        for only in (0, 1):
            assert np.isnan(metric(replace(rows, y=np.full_like(rows.y, only))))

    def test_the_order_of_subjects_does_not_matter(self, metric: Metric, rows: ScoredRows) -> None:
        """The rows of a stay keep their order."""
        shuffled = _select_subjects(rows, np.random.default_rng(2).permutation(_SUBJECTS))
        assert metric(shuffled) == pytest.approx(metric(rows), rel=1e-9)

    def test_a_subject_of_weight_w_counts_like_w_subjects(
        self, metric: Metric, rows: ScoredRows
    ) -> None:
        """So that resamples of subjects are what the bootstrap takes them for."""
        weights = np.random.default_rng(4).integers(0, 3, _SUBJECTS)
        repeated = _select_subjects(rows, np.repeat(np.arange(_SUBJECTS), weights))
        sample = Sample(rows, weights[:, None].astype(np.float64))
        tolerance = 1e-6 if self.is_exact else 0.1
        assert metric.compute(sample)[0] == pytest.approx(metric(repeated), rel=tolerance)

    def test_each_resample_has_its_own_value(self, metric: Metric, rows: ScoredRows) -> None:
        """Of B weighted copies, each has the value that it has alone; shape (B,)."""
        weights = np.random.default_rng(3).integers(0, 3, (_SUBJECTS, 4)).astype(np.float64)
        together = metric.compute(Sample(rows, weights))
        assert together.shape == (4,)
        alone = [metric.compute(Sample(rows, weights[:, [b]]))[0] for b in range(4)]
        np.testing.assert_allclose(together, alone, rtol=1e-9)

    def test_weight_1_for_everybody_is_the_value_itself(
        self, metric: Metric, rows: ScoredRows
    ) -> None:
        """The bootstrap and the point estimate use one definition."""
        ones = np.ones((_SUBJECTS, 1))
        assert metric.compute(Sample(rows, ones))[0] == pytest.approx(metric(rows), rel=1e-12)

    def test_a_perfect_model_is_at_least_as_good(self, metric: Metric) -> None:
        """If the metric has a direction and needs probabilities alone."""
        if metric.larger_is_better is None or metric.requires is not RequiredInput.probabilities:
            pytest.skip("it has no direction, or depends on alerts")
        rows = toy_rows(1)
        perfect = metric(replace(rows, p=np.where(rows.y == 1, 0.999, 0.001)))
        sign = 1 if metric.larger_is_better else -1
        assert sign * perfect >= sign * metric(rows) - 1e-9
