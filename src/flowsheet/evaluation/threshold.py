"""The alert policy of a model: chosen on development data, never on the test split.

A promise (a budget of alerts, a PPV, a sensitivity) is kept by the threshold that is proven to, by
fixed-sequence testing over thresholds (see ``promises``): from the strictest on for a budget or a
PPV, and the most lenient one that is proven is taken, as it finds the most onsets; from the most
lenient on for a sensitivity, and the strictest one that is proven is taken. Where none is proven,
nothing is promised, and the threshold is the one whose estimate comes up to the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsheet.config import AlertingConfig, EvaluationConfig, TaskConfig, ThresholdBy
from flowsheet.errors import UsageError
from flowsheet.evaluation.alert_counts import AlertCounts, OnsetWindows
from flowsheet.evaluation.alert_policy import (
    DAY,
    NEVER_ALERT,
    AlertPolicy,
    AlertPromise,
    raise_alerts,
)
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.metrics import ScoredRows
from flowsheet.evaluation.metrics.normalised_utility import RowUtility
from flowsheet.evaluation.promises import Ratio, find_last_proven
from flowsheet.evaluation.subsets import ALL, Subset, has_utility, score_rows, select_judged_rows
from flowsheet.typing import AnyArray, Floats
from flowsheet.windows.sequences import Sequences

N_THRESHOLDS = 150
"""Thresholds that a promise is tested at, by equal ratios of the rows above them."""
START_SUBJECTS = (20, 40, 80, 160)
"""Subjects with an alert at which the tests of a PPV begin."""
N_STARTS = 4
"""Where the tests of a sensitivity begin, if alerts are silenced."""


def check_alerting(alerting: AlertingConfig, task: TaskConfig) -> None:
    """Check that the task has what the policy's threshold is chosen by.

    Raises:
        UsageError: it has not; the message names the key.
    """
    by, target = alerting.threshold_by, alerting.target
    if by is ThresholdBy.utility and target is None and not has_utility(task):
        raise UsageError(
            "the PhysioNet 2019 utility is defined for hourly predictions of a state six hours "
            "ahead only",
            where=f"alerting {alerting.name}, task {task.name}",
            todo="give alerting.target: how many false alerts one found onset is worth",
        )
    if by is not ThresholdBy.alerts_per_day:
        return
    if task.at_hours is not None:
        raise UsageError(
            "the task asks once a stay, so that there are no alerts per patient-day",
            where=f"alerting {alerting.name}, task {task.name}",
            todo="choose alerting=ppv or alerting=sensitivity",
        )
    if target is not None and target > DAY / task.step_hours:
        raise UsageError(
            f"a budget of {target:g} alerts per patient-day is more than an alert at every "
            f"prediction ({DAY / task.step_hours:g} a day)",
            where="alerting.target",
            todo="give a smaller budget",
        )


def choose_policy(
    development: Sequences,
    p: Floats,
    task: TaskConfig,
    config: EvaluationConfig,
    alerting: AlertingConfig,
) -> AlertPolicy:
    """The alert policy with the threshold that serves it best on ``development``.

    Args:
        development: the development stays, N rows.
        p: the predicted probabilities of their rows, shape (N,).
        task: what is predicted.
        config: the least number of events for an estimate.
        alerting: what the threshold is chosen by, and when alerts are silent.

    Raises:
        UsageError: the task does not have what the threshold is chosen by.
    """
    check_alerting(alerting, task)
    by = alerting.threshold_by
    if by.is_promise:
        return _ThresholdSearch(development, p, task, alerting).keep_promise()
    if by is ThresholdBy.utility and alerting.target is not None:
        return _ThresholdSearch(development, p, task, alerting).maximize_found_onsets()
    if has_utility(task):
        all_rows = Subset(ALL, np.asarray(development.scored))
        scored = score_rows(development, all_rows, ModelPredictions(p), config)
        return AlertPolicy.from_config(
            alerting, maximize_utility(scored), maximizes="normalised_utility", subset=ALL
        )
    judged = select_judged_rows(development, config)
    scored = score_rows(development, judged, ModelPredictions(p), config)
    return AlertPolicy.from_config(
        alerting, maximize_f_measure(scored), maximizes="f_measure", subset=judged.name
    )


@dataclass(frozen=True)
class _ThresholdSearch:
    """Thresholds of one policy, and what its alerts cost and find at each of them."""

    development: Sequences
    p: Floats
    task: TaskConfig
    alerting: AlertingConfig

    @cached_property
    def windows(self) -> OnsetWindows:
        """Where onsets can be found."""
        return OnsetWindows(self.development, self.task)

    @cached_property
    def thresholds(self) -> list[float]:
        """The strictest first, which raises no alert; they do not depend on the outcomes."""
        risks = np.sort(self.p[np.asarray(self.development.scored)])[::-1]
        if not len(risks):
            return [NEVER_ALERT]
        ranks = np.geomspace(1, len(risks), N_THRESHOLDS).astype(np.int64)
        return [NEVER_ALERT, *np.unique(risks[ranks - 1])[::-1].tolist()]

    @cached_property
    def _counts(self) -> dict[float, AlertCounts]:
        return {}

    def count(self, threshold: float) -> AlertCounts:
        """What the alerts at a threshold cost and find; counted once."""
        if threshold not in self._counts:
            self._counts[threshold] = self._count(threshold)
        return self._counts[threshold]

    def _count(self, threshold: float) -> AlertCounts:
        policy = AlertPolicy.from_config(self.alerting, threshold)
        rows = self.development
        return self.windows.count(
            raise_alerts(policy, self.task, rows.row_stay, np.asarray(rows.step), self.p)
        )

    def maximize_found_onsets(self) -> AlertPolicy:
        """The threshold with the most found onsets, less false alerts at their price."""
        worth = self.alerting.target
        assert worth is not None
        gains = []
        for threshold in self.thresholds:
            counts = self.count(threshold)
            false_alerts = counts.judged_alerts.sum() - counts.right_alerts.sum()
            gains.append(counts.found.sum() * worth - false_alerts)
        best = self.thresholds[int(np.argmax(gains))]
        return AlertPolicy.from_config(self.alerting, best, maximizes="found_onsets")

    def keep_promise(self) -> AlertPolicy:
        """The threshold that is proven to keep the promise, or else the one that seems to."""
        kind, target = self.alerting.threshold_by, self.alerting.target
        assert target is not None
        is_strict_first = kind is not ThresholdBy.sensitivity
        ordered = self.thresholds if is_strict_first else self.thresholds[::-1]
        is_lower = kind is not ThresholdBy.alerts_per_day
        alpha = 1 - self.alerting.confidence

        def ratio(position: int) -> Ratio:
            return Ratio.from_counts(kind, self.count(ordered[position]))

        def p_value(position: int) -> float:
            never = ordered[position] == NEVER_ALERT
            if never and not is_lower:
                return 0.0  # no alert is within every budget
            return ratio(position).p_value(target, is_above=is_lower)

        proven = find_last_proven(p_value, self._find_starts(ordered), len(ordered), alpha)
        if proven is not None:
            position, level = proven.position, proven.level
        else:
            estimates = [ratio(i).value for i in range(len(ordered))]
            position, level = _find_last_at_target(estimates, target, is_lower=is_lower), alpha
        chosen = ratio(position)
        promise = AlertPromise(
            kind=kind,
            target=target,
            confidence=self.alerting.confidence,
            is_made=proven is not None,
            estimate=_or_none(chosen.value),
            bound=_or_none(chosen.bound(level, is_lower=is_lower)),
            subjects=chosen.n_subjects,
        )
        return AlertPolicy.from_config(self.alerting, ordered[position], promise=promise)

    def _find_starts(self, ordered: list[float]) -> list[int]:
        """Where the tests begin; none of it depends on the outcomes.

        A budget is kept for certain by no alert at all, and a sensitivity best by alerts
        everywhere, unless the alert is silenced that would have found the onset. The PPV of
        a few alerts is proven by nothing, so that its tests begin where more subjects have one.
        """
        kind = self.alerting.threshold_by
        if kind is ThresholdBy.ppv:
            with_alert = [np.count_nonzero(self.count(t).alerts) for t in ordered]
            reached = np.searchsorted(np.maximum.accumulate(with_alert), START_SUBJECTS)
            return sorted({min(int(position), len(ordered) - 1) for position in reached})
        policy = AlertPolicy.from_config(self.alerting, 0.0)
        if kind is ThresholdBy.sensitivity and policy.has_silence(self.task):
            return sorted({len(ordered) * part // N_STARTS for part in range(N_STARTS)})
        return [0]


def _find_last_at_target(estimates: list[float], target: float, *, is_lower: bool) -> int:
    """The last position whose estimate comes up to the target; 0: none does."""
    values = np.array(estimates)
    is_reached = values >= target if is_lower else values <= target
    return int(np.flatnonzero(is_reached)[-1]) if is_reached.any() else 0


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def maximize_utility(scored: ScoredRows) -> float:
    """The threshold of the highest normalised utility; ``NEVER_ALERT`` if every one is negative."""
    utility = RowUtility.from_rows(scored)
    thresholds, (gain,) = _sums_at_or_above(scored, utility.alert - utility.silent)
    if not len(thresholds) or gain.max() <= 0:
        return NEVER_ALERT
    return float(thresholds[gain.argmax()])


def maximize_f_measure(scored: ScoredRows) -> float:
    """The threshold of the highest F-measure; ``NEVER_ALERT`` where there is no event."""
    n_rows = len(scored.y)
    thresholds, (true_alerts, alerts) = _sums_at_or_above(scored, scored.y, np.ones(n_rows))
    if not scored.n_events:
        return NEVER_ALERT
    f_measure = 2 * true_alerts / (alerts + scored.weigh(scored.y).sum())
    return float(thresholds[f_measure.argmax()])


def _sums_at_or_above(scored: ScoredRows, *values: AnyArray) -> tuple[Floats, list[Floats]]:
    """Weighted sums over the rows at or above each threshold.

    Returns:
        The distinct probabilities in descending order, and the sums of each of ``values``.
    """
    negated, index = np.unique(-scored.p, return_inverse=True)
    sums = [
        np.cumsum(np.bincount(index, scored.weigh(value), minlength=len(negated)), dtype=np.float64)
        for value in values
    ]
    return -negated, sums
