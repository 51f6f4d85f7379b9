"""What the alerts of a policy cost and find on held-out subjects, and whether a promise is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowsheet.config import EvaluationConfig, FrozenModel, TaskConfig, ThresholdBy
from flowsheet.evaluation.alert_counts import AlertCounts, OnsetWindows
from flowsheet.evaluation.alert_policy import AlertPolicy, AlertPromise, raise_alerts
from flowsheet.evaluation.folds import FoldPredictions
from flowsheet.evaluation.promises import Ratio
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.typing import Bools, Floats
from flowsheet.windows.sequences import Sequences

KEPT = "kept"
KEPT_WITHIN_CHANCE = "kept within chance"
NOT_KEPT = "not kept"
NOT_MADE = "not made"
NOT_JUDGED = "not judged"


class AlertEstimate(FrozenModel):
    """A ratio on the held-out subjects, with the bounds of its interval; None: not defined.

    Very few subjects have a value without an interval.
    """

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def from_ratio(cls, ratio: Ratio, confidence: float) -> AlertEstimate:
        """The ratio with its two-sided interval, if there is one."""
        alpha = (1 - confidence) / 2
        low, high = (ratio.bound(alpha, is_lower=is_lower) for is_lower in (True, False))
        value = _or_none(ratio.value)
        if math.isnan(low) or math.isnan(high):
            return cls(value=value, low=None, high=None)
        return cls(value=value, low=low, high=high)

    def format(self, decimals: int) -> str:
        """The value with its interval."""
        numbers = (self.value, self.low, self.high)
        value, low, high = (math.nan if number is None else number for number in numbers)
        return format_estimate(value, low, high, decimals)


class JudgedPromise(FrozenModel):
    """A promise of the validation subjects, tested on the held-out ones."""

    kind: ThresholdBy
    target: float
    confidence: float
    verdict: str
    """``kept``: the estimate comes up to it. ``kept within chance``: the estimate does not, but its
    one-sided bound does. ``not kept``: neither does. ``not made``: no threshold was proven to keep
    it. ``not judged``: too few held-out subjects."""
    sentence: str


class AlertJudgement(FrozenModel):
    """The alerts of one model's policy on the held-out subjects, by episode."""

    description: str
    """When an alert is raised."""
    has_silence: bool = False
    """Whether alerts may be silenced, so that fewer are raised than there are."""
    subjects: int
    onsets: int
    alerts_per_day: AlertEstimate
    ppv: AlertEstimate
    onsets_found: AlertEstimate
    lead_hours: float | None
    """Median from the first alert in the window to the onset, over the found onsets."""
    promise: JudgedPromise | None = None

    def metrics(self) -> dict[str, float]:
        """Names and values for a tracker: ``ppv``, ``ppv.low``, ``promise_kept``, ..."""
        values: dict[str, float | None] = {"lead_hours": self.lead_hours}
        for name in ("alerts_per_day", "ppv", "onsets_found"):
            estimate = getattr(self, name)
            values |= {
                name: estimate.value,
                f"{name}.low": estimate.low,
                f"{name}.high": estimate.high,
            }
        if self.promise and self.promise.verdict not in (NOT_MADE, NOT_JUDGED):
            values["promise_kept"] = float(self.promise.verdict != NOT_KEPT)
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class HeldOutAlerts:
    """Alerts on held-out stays, of which each was raised by one policy."""

    windows: OnsetWindows
    config: EvaluationConfig

    def judge(self, policies: Sequence[tuple[AlertPolicy, Bools]], p: Floats) -> AlertJudgement:
        """What one model's alerts cost and find.

        Args:
            policies: the policies of the folds, each with its rows (N,).
            p: (N,) probabilities of the model.
        """
        rows, task = self.windows.sequences, self.windows.task
        is_raised = np.zeros(rows.rows, np.bool_)
        promised = np.zeros(rows.rows, np.bool_)
        for policy, of_fold in policies:
            raised = raise_alerts(policy, task, rows.row_stay, np.asarray(rows.step), p)
            is_raised |= raised & of_fold
            if policy.promise and policy.promise.is_made:
                promised |= of_fold
        counts = self.windows.count(is_raised)
        confidence = self.config.confidence
        estimates = {
            kind: AlertEstimate.from_ratio(Ratio.from_counts(kind, counts), confidence)
            for kind in ThresholdBy
            if kind.is_promise
        }
        dated = counts.lead_hours[np.isfinite(counts.lead_hours)]
        description = describe_policy(policies[0][0], task)
        if len(policies) > 1:
            description = f"Each fold has a threshold of its own; in the first: {description}"
        return AlertJudgement(
            description=description,
            has_silence=any(policy.has_silence(task) for policy, _ in policies),
            subjects=len(counts.days),
            onsets=int(counts.onsets.sum()),
            alerts_per_day=estimates[ThresholdBy.alerts_per_day],
            ppv=estimates[ThresholdBy.ppv],
            onsets_found=estimates[ThresholdBy.sensitivity],
            lead_hours=float(np.median(dated)) if len(dated) else None,
            promise=self._judge_promise([policy for policy, _ in policies], counts, promised),
        )

    def _judge_promise(
        self, policies: Sequence[AlertPolicy], counts: AlertCounts, promised: Bools
    ) -> JudgedPromise | None:
        """The promise on the subjects of the folds that make it; None: the policy promises nothing.

        Args:
            policies: of the folds.
            counts: of all held-out subjects.
            promised: (N,) rows of the folds that make the promise.
        """
        promises = [policy.promise for policy in policies if policy.promise]
        if not promises:
            return None
        made = [promise for promise in promises if promise.is_made]
        first = (made or promises)[0]
        verdict, finding = NOT_MADE, ""
        if made:
            sequences = self.windows.sequences
            subject = np.unique(sequences.subject_id, return_inverse=True)[1]
            is_promised = np.zeros(len(counts.days), np.bool_)
            is_promised[subject[sequences.row_stay[promised]]] = True
            ratio = Ratio.from_counts(first.kind, counts)
            kept = Ratio(
                np.where(is_promised, ratio.numerator, 0.0),
                np.where(is_promised, ratio.denominator, 0.0),
                ratio.is_share,
            )
            verdict, finding = _compare(first, kept, self.config.minimum_events)
        sentence = " ".join(_describe_promise(first, len(made), len(promises), finding))
        return JudgedPromise(
            kind=first.kind,
            target=first.target,
            confidence=first.confidence,
            verdict=verdict,
            sentence=sentence,
        )


def judge_policies(
    sequences: Sequences,
    predictions: Mapping[str, Floats],
    policies: Mapping[str, AlertPolicy],
    task: TaskConfig,
    config: EvaluationConfig,
) -> dict[str, AlertJudgement]:
    """What the alerts of each model with a policy cost and find on held-out stays.

    Args:
        sequences: the held-out stays, N rows.
        predictions: by model, the probability of each row, shape (N,).
        policies: by model.
        task: what is predicted.
        config: the confidence of the intervals.
    """
    held_out = HeldOutAlerts(OnsetWindows(sequences, task), config)
    everything = np.ones(sequences.rows, np.bool_)
    return {
        model: held_out.judge([(policy, everything)], predictions[model])
        for model, policy in sorted(policies.items())
        if model in predictions
    }


def judge_fold_policies(
    sequences: Sequences,
    folds: Sequence[FoldPredictions],
    task: TaskConfig,
    config: EvaluationConfig,
) -> dict[str, AlertJudgement]:
    """The same for the first repetition of a cross-validation, each fold with its own policy.

    Args:
        sequences: the stays of all subjects, N rows.
        folds: of all repetitions.
        task: what is predicted.
        config: the confidence of the intervals.
    """
    held_out = HeldOutAlerts(OnsetWindows(sequences, task), config)
    first = [fold for fold in folds if fold.id.repeat == folds[0].id.repeat]
    masks = [fold.find_rows(sequences) for fold in first]
    judged = {}
    for model in sorted(first[0].predictions):
        if not all(model in fold.policies for fold in first):
            continue
        p = np.zeros(sequences.rows)
        for fold, rows in zip(first, masks, strict=True):
            p[rows] = fold.predictions[model]
        policies = [(fold.policies[model], rows) for fold, rows in zip(first, masks, strict=True)]
        judged[model] = held_out.judge(policies, p)
    return judged


def _compare(promise: AlertPromise, ratio: Ratio, minimum: int) -> tuple[str, str]:
    """The verdict, and what was found, in words."""
    is_lower = promise.kind is not ThresholdBy.alerts_per_day
    value, alpha = ratio.value, 1 - promise.confidence
    if math.isnan(value) or ratio.n_subjects < minimum:
        unit = {
            ThresholdBy.ppv: "with an alert",
            ThresholdBy.sensitivity: "with an onset",
        }.get(promise.kind, "with a prediction")
        finding = f"{ratio.n_subjects:,} held-out subjects {unit} are too few to judge it."
        return NOT_JUDGED, finding
    is_reached = value >= promise.target if is_lower else value <= promise.target
    is_refuted = ratio.p_value(promise.target, is_above=not is_lower) <= alpha
    verdict = KEPT if is_reached else NOT_KEPT if is_refuted else KEPT_WITHIN_CHANCE
    estimate = AlertEstimate.from_ratio(ratio, promise.confidence)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        ends = [_format(promise.kind, end) for end in (estimate.low, estimate.high)]
        interval = f" [{ends[0]}, {ends[1]}]"
    finding = (
        f"On {ratio.n_subjects:,} held-out subjects it is {verdict}: "
        f"{_format(promise.kind, value)}{interval}."
    )
    return verdict, finding


def _describe_promise(
    promise: AlertPromise, n_made: int, n_folds: int, finding: str
) -> Iterator[str]:
    """The promise, whether it is made, and what was found, in sentences.

    Args:
        promise: of the policy, or of the first fold that makes it.
        n_made: folds that make it.
        n_folds: folds in total.
        finding: on the held-out subjects.
    """
    what = describe_promise(promise.kind, promise.target)
    level = f"with {promise.confidence:.0%} confidence"
    if not n_made:
        yield (
            f"No threshold was proven to keep {what} {level} on the validation subjects: nothing "
            "is promised, and the threshold is the one whose estimate there comes nearest."
        )
        return
    of_folds = "" if n_folds == 1 else f" in {n_made} of {n_folds} folds"
    yield f"Promised{of_folds} {level}: {what}."
    if n_folds == 1 and promise.bound is not None and promise.estimate is not None:
        side = "at most" if promise.kind is ThresholdBy.alerts_per_day else "at least"
        yield (
            f"On {promise.subjects:,} validation subjects it was "
            f"{_format(promise.kind, promise.estimate)}, {side} "
            f"{_format(promise.kind, promise.bound)}."
        )
    yield finding


def describe_promise(kind: ThresholdBy, target: float) -> str:
    """What is promised, in words.

    >>> describe_promise(ThresholdBy.ppv, 0.2)
    'that at least 20% of the alerts are right'
    >>> describe_promise(ThresholdBy.alerts_per_day, 0.2)
    'at most 0.2 alerts per patient-day'
    """
    if kind is ThresholdBy.alerts_per_day:
        return f"at most {target:g} alerts per patient-day"
    if kind is ThresholdBy.ppv:
        return f"that at least {100 * target:g}% of the alerts are right"
    return f"that at least {100 * target:g}% of the onsets are found"


def describe_policy(policy: AlertPolicy, task: TaskConfig | None = None) -> str:
    """When an alert is raised, in sentences.

    >>> describe_policy(AlertPolicy(threshold=0.1, silence_hours=12, max_alerts_per_day=2))
    'An alert is raised from a risk of 10% on, none within 12 h of another, at most 2 in 24 h.'
    """
    if policy.threshold > 1:
        return "No alert is raised: no threshold served on the validation subjects."
    parts = [f"An alert is raised from a risk of {100 * policy.threshold:.3g}% on"]
    if policy.silence_hours:
        parts.append(f"none within {policy.silence_hours:g} h of another")
    if policy.acknowledged_hours is not None:
        parts.append(f"none within {policy.acknowledged_hours:g} h of one that was acknowledged")
    if policy.max_alerts_per_day is not None:
        parts.append(f"at most {policy.max_alerts_per_day} in 24 h")
    text = ", ".join(parts) + "."
    if task is None or len(parts) == 1 or policy.has_silence(task):
        return text
    if task.at_hours is not None:
        return f"{text} The task asks once a stay: no alert is silenced."
    return f"{text} With a prediction every {task.step_hours:g} h no alert is silenced."


def _format(kind: ThresholdBy, value: float) -> str:
    return f"{value:.3g}" if kind is ThresholdBy.alerts_per_day else f"{value:.1%}"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
