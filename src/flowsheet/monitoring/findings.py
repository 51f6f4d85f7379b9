"""Then and now, property by property: what differs, by how much, and whether that is worth an
alarm.

Every property is put to one test, and Holm's correction runs over all of them. So the chance that a
report on records that are like the training records flags anything at all is at most ``alpha``.
What is flagged must differ by a declared amount, too: with enough patients every hospital differs
from itself a year ago.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import polars as pl

from flowsheet.config import FrozenModel, MonitoringConfig
from flowsheet.evaluation.bootstrap import holm_adjust, t_interval
from flowsheet.monitoring.performance import CONFIDENCE, Figure, Performance, performance
from flowsheet.monitoring.reference import Reference, mean_risk_profile
from flowsheet.monitoring.sketch import Sketch, effective, kolmogorov
from flowsheet.monitoring.units import mistake
from flowsheet.monitoring.words import said
from flowsheet.typing import Floats, Ints

_TESTED = {
    "auroc": "auroc_loss",
    "calibration_slope": "slope_change",
    "calibration_intercept": "intercept_change",
}
"""Figures that are tested, and the change of each that matters."""


class Finding(FrozenModel):
    """One property, then and now."""

    kind: str
    """``value``, ``presence``, ``given``, ``person``, ``stay``, ``risk`` or ``performance``."""
    of: str
    then_n: int
    now_n: int
    """Stays; of ``performance`` subjects."""
    then: float | None
    now: float | None
    """Means, or figures of merit."""
    gap: float | None
    """The largest distance between the two distribution functions; of ``performance`` the change."""
    standardised: float | None = None
    """The change of the mean in the reference's standard deviations."""
    stability_index: float | None = None
    p: float | None = None
    """For no difference; None: not estimable."""
    p_holm: float | None = None
    flagged: bool = False
    unit: str | None = None
    """In which the values seem to be."""
    unit_share: float | None = None
    """Of the stays."""
    why_not: str | None = None
    """Why there was no test."""
    said: str = ""


class Findings(FrozenModel):
    """A whole comparison."""

    alpha: float
    """The chance that anything is flagged although nothing has changed, at most."""
    stays: int
    subjects: int
    findings: tuple[Finding, ...]
    performance: Performance

    @property
    def flags(self) -> tuple[Finding, ...]:
        """What is flagged, the largest change first."""
        return tuple(
            sorted(
                (f for f in self.findings if f.flagged),
                key=lambda f: (-abs(f.gap or 0), f.kind, f.of),
            )
        )

    @property
    def tests(self) -> int:
        """How many properties could be tested."""
        return sum(finding.p is not None for finding in self.findings)

    def frame(self) -> pl.DataFrame:
        """A line a property."""
        numbers = dict.fromkeys(
            ("then", "now", "gap", "standardised", "stability_index", "p", "p_holm", "unit_share"),
            pl.Float64,
        )
        return pl.DataFrame(
            [finding.model_dump() for finding in self.findings], schema_overrides=numbers
        )


def compare(
    reference: Reference, profile: pl.DataFrame, risks: pl.DataFrame, config: MonitoringConfig
) -> Findings:
    """Hold a new profile (``PROFILE``) and new risks (``RISKS``) against the reference."""
    every = pl.concat([profile, mean_risk_profile(risks)])
    now = performance(risks, config.minimum_events)
    made = [*_distributions(reference, every, config), *_figures(reference.performance, now)]
    corrected = holm_adjust([math.nan if finding.p is None else finding.p for finding in made])
    return Findings(
        alpha=config.alpha,
        stays=profile["stay_id"].n_unique(),
        subjects=profile["subject_id"].n_unique(),
        findings=tuple(
            _judged(finding, p, config) for finding, p in zip(made, corrected, strict=True)
        ),
        performance=now,
    )


def _distributions(
    reference: Reference, profile: pl.DataFrame, config: MonitoringConfig
) -> Iterator[Finding]:
    now = profile.partition_by("kind", "of", as_dict=True)
    for entry in reference.entries:
        lines = now.get((entry.kind, entry.of), profile.clear())
        values, subjects = lines["number"].to_numpy(), lines["subject_id"].to_numpy()
        yield distribution((entry.kind, entry.of), entry.sketch, values, subjects, config)


def distribution(
    name: tuple[str, str],
    then: Sketch,
    values: Floats,
    subjects: Ints,
    config: MonitoringConfig,
) -> Finding:
    """One property, ``name`` (kind, of): ``values`` are what it is now (n,), of these ``subjects`` (n,)."""
    kind, of = name
    mean = float(values.mean()) if len(values) else None
    bare = Finding(
        kind=kind,
        of=of,
        then_n=then.n,
        now_n=len(values),
        then=then.mean if then.n else None,
        now=mean,
        gap=None,
    )
    independent = effective(subjects)
    few = min(then.effective, independent)
    if mean is None or few < config.minimum_stays:
        when = "then" if then.effective < independent else "now"
        return bare.model_copy(
            update={"why_not": f"{few:,.0f} patients {when}, {config.minimum_stays} are needed"}
        )
    gap = then.distance(values)
    wrong = mistake(of, then, values) if kind in ("value", "person") else None
    return bare.model_copy(
        update={
            "gap": gap,
            "standardised": (mean - then.mean) / then.sd if then.sd > 0 else None,
            "stability_index": then.stability_index(values),
            "p": kolmogorov(gap, then.effective, independent),
            "unit": wrong.unit if wrong else None,
            "unit_share": wrong.share if wrong else None,
        }
    )


def _figures(then: Performance, now: Performance) -> Iterator[Finding]:
    for name in _TESTED:
        bare = Finding(
            kind="performance",
            of=name,
            then_n=then.subjects,
            now_n=now.subjects,
            then=_value(then.figures, name),
            now=_value(now.figures, name),
            gap=None,
        )
        yield bare.model_copy(update=_tested(name, then, now))


def _tested(name: str, then: Performance, now: Performance) -> dict[str, float | str]:
    if then.why_not or now.why_not:
        return {"why_not": f"then: {then.why_not}" if then.why_not else f"now: {now.why_not}"}
    before, after = then[name], now[name]
    if before.value is None or after.value is None or before.error is None or after.error is None:
        return {"why_not": "too few resamples could tell"}
    error = math.hypot(before.error, after.error)
    found = t_interval(
        after.value - before.value, error, min(then.subjects, now.subjects) - 1, CONFIDENCE
    )
    return {"gap": found.value, "p": _one_sided(name, found.value, found.p)}


def _one_sided(name: str, change: float, p: float) -> float:
    """Better discrimination is no alarm."""
    if name != "auroc":
        return p
    return p / 2 if change < 0 else 1 - p / 2


def _value(figures: Sequence[Figure], name: str) -> float | None:
    return next((figure.value for figure in figures if figure.name == name), None)


def _judged(finding: Finding, p_holm: float, config: MonitoringConfig) -> Finding:
    if finding.p is None:
        return finding.model_copy(update={"said": said(finding.model_dump())})
    flagged = p_holm <= config.alpha and _matters(finding, config)
    judged: dict[str, object] = {"p_holm": p_holm, "flagged": flagged}
    if not flagged:
        judged |= {"unit": None, "unit_share": None}
    return finding.model_copy(update=judged | {"said": said(finding.model_dump() | judged)})


def _matters(finding: Finding, config: MonitoringConfig) -> bool:
    """Whether the change is as large as the configuration says it must be."""
    gap = finding.gap or 0.0
    if finding.kind == "performance":
        least: float = getattr(config, _TESTED[finding.of])
        return abs(gap) >= least
    if finding.kind == "presence" and finding.then is not None and finding.now is not None:
        larger, smaller = max(finding.then, finding.now), min(finding.then, finding.now)
        return gap >= config.ks_statistic or larger >= config.measurement_rate_ratio * smaller
    return gap >= config.ks_statistic
