"""What a report is made of: plain values and frames. Whatever is empty is left out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.config import EvaluationConfig, Protocol, Response, TaskConfig
from flowsheet.evaluation.evidence import Evidence


@dataclass(frozen=True)
class CohortReport:
    """Who the figures are about."""

    source: str
    licence: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """E.g. subjects, stays, events; shown in this order."""
    attrition: tuple[tuple[str, int], ...] = ()
    """Stays left after each step, in order."""
    quarantined: tuple[tuple[str, str, int], ...] = ()
    """(table, rule, rows) set aside."""
    parts: pl.DataFrame = field(default_factory=pl.DataFrame)
    """part, subjects, stays, rows, events: one line for each of training, validation and test."""
    missing: Mapping[str, float] = field(default_factory=dict)
    """Share of rows at which nothing is known of a variable."""
    prevalence: pl.DataFrame = field(default_factory=pl.DataFrame)
    """by, group, stays, septic, share: stays with an episode, by care unit, database, order of admission, ..."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """What the source met, left out or mended on its way, in its own words."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the cohort was made with."""


@dataclass(frozen=True)
class ModelReport:
    """One model: what it is, how it was found, what it learned."""

    name: str
    family: str = ""
    input_description: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Of the best trial."""
    tuning_score: str = ""
    """What tuning maximized, e.g. "AUPRC on the validation subjects"."""
    trials: pl.DataFrame = field(default_factory=pl.DataFrame)
    """number, state (complete, pruned, failed), value."""
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """As ``Model.tables()`` gives them. A first column of numbers (epoch, round) makes a curve of
    the last column, one of names makes bars of the second."""
    seconds: float | None = None
    importance: pl.DataFrame = field(default_factory=pl.DataFrame)
    """parameter, importance: shares of what the tuned score depended on."""
    importance_unavailable: str = ""
    """Why there is no importance table; empty where there is one."""


@dataclass(frozen=True)
class Section:
    """A finished section of the page, with its entry in the page's navigation."""

    anchor: str
    title: str
    html: Markup


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    title: str
    evidence: Evidence
    question: str = ""
    """The task in a sentence; see :func:`describe_task`."""
    description: str = ""
    protocol: str = ""
    """How the evidence was made; see :func:`describe_protocol`."""
    cohort: CohortReport | None = None
    sections: tuple[Section, ...] = ()
    """Sections of special studies, shown after the evidence."""
    excluded_models: Mapping[str, str] = field(default_factory=dict)
    """Models that do not apply to the task, and why."""
    models: tuple[ModelReport, ...] = ()
    record: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Groups of facts, e.g. {"Fingerprints": {...}, "Versions": {...}, "Seeds": {...}, "Durations": {...}}."""
    config_yaml: str = ""
    created_at: str = ""


def describe_task(task: TaskConfig) -> str:
    """The task in a sentence.

    >>> describe_task(TaskConfig(name="next_day"))
    'Once every 24 hours of a stay: will the patient be septic at some time in the next 24 hours?'
    """
    each = "hour" if task.step_hours == 1 else f"{task.step_hours:g} hours"
    event = "be septic" if task.response is Response.state else "become septic for the first time"
    if task.cutoff_hours is not None:
        rest = task.step_hours - task.cutoff_hours
        return (
            f"Once every {each} of a stay, {task.cutoff_hours:g} h into it: will the patient {event} "
            f"at some time in the remaining {rest:g} hours?"
        )
    ahead = task.step_hours * task.horizon
    return f"Once every {each} of a stay: will the patient {event} at some time in the next {ahead:g} hours?"


def describe_protocol(config: EvaluationConfig) -> str:
    """How the evidence is made, in two sentences.

    >>> describe_protocol(EvaluationConfig(name="e", test=0.25)).split(". ")[0]
    'Hold-out: 25% of the subjects, drawn once and frozen, are kept apart'
    """
    share = f"{config.validation:.0%} of all subjects"
    if config.protocol is Protocol.cross_validation:
        times = "" if config.repeats == 1 else f", {config.repeats} times anew,"
        kept = f"Nested cross-validation: the subjects are dealt into {config.folds} folds{times} and every subject is"
        return f"{kept} predicted by models that never saw it. {_inside(share)}"
    if config.protocol is Protocol.site and not config.sites:
        return f"Hold-out by site: each site in turn is predicted by models that never saw it. {_inside(share)}"
    kept = {
        Protocol.holdout: f"Hold-out: {config.test:.0%} of the subjects, drawn once and frozen, are kept apart.",
        Protocol.temporal: f"Hold-out in time: the {config.test:.0%} of the subjects who came last are kept apart.",
        Protocol.site: f"Hold-out by site: the subjects of {', '.join(config.sites)} are kept apart.",
    }[config.protocol]
    return f"{kept} Of the others, {share} decide tuning, early stopping and alarm thresholds."


def _inside(share: str) -> str:
    return f"Within each fold {share}, none of them held out there, decide tuning, early stopping and alarm thresholds."
