"""Tests for drift: each property of the current records against the reference.

Every property has one test, and Holm's correction runs over all of them. So the probability that a
report on records like the training records flags anything at all is at most ``alpha``. A flagged
property must also differ by a declared minimum: with enough patients, every hospital differs from
itself a year ago.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl

from flowsheet.config import FrozenModel, MonitoringConfig
from flowsheet.evaluation.bootstrap import Difference, holm_adjust, t_interval
from flowsheet.monitoring.descriptions import describe_finding
from flowsheet.monitoring.influence import Property, estimate_effects
from flowsheet.monitoring.performance import (
    CONFIDENCE,
    MetricEstimate,
    Performance,
    estimate_performance,
)
from flowsheet.monitoring.profile import PropertyKind
from flowsheet.monitoring.reference import PropertyDistribution, Reference, mean_risk_profile
from flowsheet.monitoring.sketch import effective_sample_size, ks_p_value
from flowsheet.monitoring.unit_errors import find_unit_error
from flowsheet.typing import Floats, Ints

PERFORMANCE_METRICS = (
    "auroc",
    "calibration_slope",
    "calibration_intercept",
    "observed_over_expected",
)
"""Metrics that are tested."""
KIND_ORDER: tuple[PropertyKind, ...] = (
    "performance",
    "risk",
    "demographics",
    "length_of_stay",
    "measured_value",
    "treatment_exposure",
    "measurement_rate",
)
"""What concerns the model first: its performance and risks, then case mix, values, charting."""
MINIMUM_JUDGED_SHARE = 0.5
"""With a smaller share of judged properties nothing can be concluded from their silence."""
_MINIMUM_CHANGES = {
    "auroc": "auroc_loss",
    "calibration_slope": "calibration_slope_change",
    "calibration_intercept": "calibration_intercept_change",
}
"""The configuration's minimum change of a metric."""


class Finding(FrozenModel):
    """One property in the reference and in the current records."""

    kind: PropertyKind
    name: str
    reference_n: int
    current_n: int
    """Number of stays; of ``performance``, number of subjects."""
    reference_value: float | None
    current_value: float | None
    """Mean over stays; of ``performance``, the metric."""
    ks_statistic: float | None = None
    """Kolmogorov-Smirnov statistic of the two distributions; None of ``performance``."""
    change: float | None = None
    """Of ``performance``: current less reference value."""
    standardised_difference: float | None = None
    """Difference of the means in the reference's standard deviations."""
    population_stability_index: float | None = None
    effect_on_risk: float | None = None
    """By how much it has moved the mean risk, approximately (see ``influence``)."""
    p: float | None = None
    """P value of no difference; None: not estimable."""
    p_holm: float | None = None
    flagged: bool = False
    suspected_unit: str | None = None
    """Unit in which the values seem to be recorded by mistake."""
    suspected_unit_share: float | None = None
    """Share of the stays in that unit."""
    reason_not_estimable: str | None = None
    summary: str = ""
    """The finding as a sentence."""

    @property
    def effect_size(self) -> float:
        """KS statistic, or absolute change of a metric; 0 if it is not estimable."""
        effect = self.change if self.kind == "performance" else self.ks_statistic
        return abs(effect or 0.0)


class Findings(FrozenModel):
    """All findings of a comparison."""

    alpha: float
    """Upper bound of the probability that anything is flagged although nothing has changed."""
    stays: int
    subjects: int
    findings: tuple[Finding, ...]
    performance: Performance
    alert_share: float | None = None
    """Share of the current predictions that raise an alert; None: the model has no threshold."""

    @property
    def flags(self) -> tuple[Finding, ...]:
        """The flagged findings: by kind, then by what they do to the predictions."""
        return tuple(sorted((f for f in self.findings if f.flagged), key=rank_finding))

    @property
    def is_judged(self) -> bool:
        """Whether enough properties could be compared for "none is flagged" to mean anything."""
        return self.tests >= MINIMUM_JUDGED_SHARE * len(self.findings)

    @property
    def main_reason_not_judged(self) -> str:
        """The most frequent reason why a property could not be compared."""
        reasons = Counter(f.reason_not_estimable for f in self.findings if f.reason_not_estimable)
        return str(reasons.most_common(1)[0][0]) if reasons else ""

    @property
    def tests(self) -> int:
        """Number of properties that could be tested."""
        return sum(finding.p is not None for finding in self.findings)

    def frame(self) -> pl.DataFrame:
        """One row a property."""
        numeric = (
            "reference_value",
            "current_value",
            "ks_statistic",
            "change",
            "standardised_difference",
            "population_stability_index",
            "effect_on_risk",
            "p",
            "p_holm",
            "suspected_unit_share",
        )
        return pl.DataFrame(
            [finding.model_dump() for finding in self.findings],
            schema_overrides=dict.fromkeys(numeric, pl.Float64),
        )


def rank_finding(finding: Finding) -> tuple[object, ...]:
    """The order of findings: by kind, then by their effect on the mean risk, then by their size."""
    order = KIND_ORDER.index(finding.kind)
    return order, -abs(finding.effect_on_risk or 0.0), -finding.effect_size, finding.name


def find_changes(
    reference: Reference, profile: pl.DataFrame, risks: pl.DataFrame, config: MonitoringConfig
) -> Findings:
    """Compare current records with the reference.

    Args:
        reference: the model's training reference.
        profile: profile (``PROFILE_SCHEMA``) of the current stays.
        risks: risks and, where known, outcomes (``RISK_SCHEMA``) of the current stays.
        config: significance level and minimum changes.
    """
    current_performance = estimate_performance(risks, config.minimum_events)
    means: dict[Property, float] = {
        (d.kind, d.name): d.sketch.mean for d in reference.distributions
    }
    effects = estimate_effects(profile, risks, means)
    all_properties = pl.concat([profile, mean_risk_profile(risks)])
    findings = [
        *(
            finding.model_copy(update={"effect_on_risk": effects.get((finding.kind, finding.name))})
            for finding in _compare_distributions(reference, all_properties, config)
        ),
        *_compare_performance(reference.performance, current_performance),
    ]
    p_values = [math.nan if finding.p is None else finding.p for finding in findings]
    adjusted = holm_adjust(p_values)
    return Findings(
        alpha=config.alpha,
        stays=profile["stay_id"].n_unique(),
        subjects=profile["subject_id"].n_unique(),
        findings=tuple(
            _conclude(finding, p_holm, config)
            for finding, p_holm in zip(findings, adjusted, strict=True)
        ),
        performance=current_performance,
    )


def _compare_distributions(
    reference: Reference, profile: pl.DataFrame, config: MonitoringConfig
) -> Iterator[Finding]:
    current = profile.partition_by("kind", "name", as_dict=True)
    for distribution in reference.distributions:
        rows = current.get((distribution.kind, distribution.name), profile.clear())
        values = rows["value"].to_numpy()
        subjects = rows["subject_id"].to_numpy()
        yield compare_distribution(distribution, values, subjects, config)


def compare_distribution(
    reference: PropertyDistribution, values: Floats, subjects: Ints, config: MonitoringConfig
) -> Finding:
    """Test one property for drift.

    Args:
        reference: the property's distribution in the reference.
        values: current values of the property (n,), one for each stay.
        subjects: subjects of these stays (n,).
        config: minimum sample size.
    """
    sketch = reference.sketch
    current_mean = float(values.mean()) if len(values) else None
    finding = Finding(
        kind=reference.kind,
        name=reference.name,
        reference_n=sketch.n,
        current_n=len(values),
        reference_value=sketch.mean if sketch.n else None,
        current_value=current_mean,
    )
    effective_n = effective_sample_size(subjects)
    if current_mean is None or min(sketch.effective_n, effective_n) < config.minimum_patients:
        reason = _describe_small_sample(sketch.effective_n, effective_n, config.minimum_patients)
        return finding.model_copy(update={"reason_not_estimable": reason})
    statistic = sketch.ks_statistic(values)
    unit_error = None
    if reference.kind in ("measured_value", "demographics"):
        unit_error = find_unit_error(reference.name, sketch, values)
    return finding.model_copy(
        update={
            "ks_statistic": statistic,
            "standardised_difference": (
                (current_mean - sketch.mean) / sketch.sd if sketch.sd > 0 else None
            ),
            "population_stability_index": sketch.population_stability_index(values),
            "p": ks_p_value(statistic, sketch.effective_n, effective_n),
            "suspected_unit": unit_error.unit if unit_error else None,
            "suspected_unit_share": unit_error.share if unit_error else None,
        }
    )


def _describe_small_sample(reference_n: float, current_n: float, minimum: int) -> str:
    if reference_n < current_n:
        return f"{reference_n:,.0f} patients in the reference data, {minimum} are needed"
    return f"{current_n:,.0f} patients in the current data, {minimum} are needed"


def _compare_performance(reference: Performance, current: Performance) -> Iterator[Finding]:
    for name in PERFORMANCE_METRICS:
        finding = Finding(
            kind="performance",
            name=name,
            reference_n=reference.subjects,
            current_n=current.subjects,
            reference_value=_find_value(reference.metrics, name),
            current_value=_find_value(current.metrics, name),
        )
        yield finding.model_copy(update=_test_metric(name, reference, current))


def _test_metric(name: str, reference: Performance, current: Performance) -> dict[str, float | str]:
    """Student's test of a metric: fields of its finding."""
    for where, performance in (("reference", reference), ("current", current)):
        if not performance.has(name):
            reason = performance.reason_not_estimable or "it is not among the recorded metrics"
            return {"reason_not_estimable": f"{where} data: {reason}"}
    difference = _difference(
        reference[name], current[name], freedom=min(reference.subjects, current.subjects) - 1
    )
    if difference is None:
        return {"reason_not_estimable": "it is defined in too few bootstrap resamples"}
    return {"change": difference.value, "p": _p_value(name, difference)}


def _difference(
    reference: MetricEstimate, current: MetricEstimate, freedom: int
) -> Difference | None:
    if reference.value is None or current.value is None:
        return None
    if reference.standard_error is None or current.standard_error is None:
        return None
    standard_error = math.hypot(reference.standard_error, current.standard_error)
    return t_interval(current.value - reference.value, standard_error, freedom, CONFIDENCE)


def _p_value(name: str, difference: Difference) -> float:
    """One-sided for AUROC: better discrimination is no reason for an alert."""
    if name != "auroc":
        return difference.p
    return difference.p / 2 if difference.value < 0 else 1 - difference.p / 2


def _find_value(metrics: Sequence[MetricEstimate], name: str) -> float | None:
    return next((metric.value for metric in metrics if metric.name == name), None)


def _conclude(finding: Finding, p_holm: float, config: MonitoringConfig) -> Finding:
    """Decide with the adjusted p value whether a finding is flagged, and summarise it."""
    if finding.p is not None:
        flagged = p_holm <= config.alpha and _is_relevant(finding, config)
        conclusion: dict[str, object] = {"p_holm": p_holm, "flagged": flagged}
        if not flagged:
            conclusion |= {"suspected_unit": None, "suspected_unit_share": None}
        finding = finding.model_copy(update=conclusion)
    return finding.model_copy(update={"summary": describe_finding(finding.model_dump())})


def _is_relevant(finding: Finding, config: MonitoringConfig) -> bool:
    """Whether the change reaches the configured minimum."""
    if finding.name == "observed_over_expected":
        return _is_other_ratio(finding, config.observed_over_expected_ratio)
    if finding.kind == "performance":
        minimum: float = getattr(config, _MINIMUM_CHANGES[finding.name])
        return finding.effect_size >= minimum
    if finding.effect_size >= config.minimum_ks_statistic:
        return True
    is_rate = finding.kind == "measurement_rate"
    return is_rate and _is_other_ratio(finding, config.measurement_rate_ratio)


def _is_other_ratio(finding: Finding, ratio: float) -> bool:
    """Whether one of the values is at least ``ratio`` times the other."""
    reference, current = finding.reference_value, finding.current_value
    if reference is None or current is None:
        return False
    return max(reference, current) >= ratio * min(reference, current)
