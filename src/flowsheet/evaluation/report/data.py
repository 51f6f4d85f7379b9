"""The content of a report as plain values and frames. Whatever is empty is left out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from markupsafe import Markup

from flowsheet.cohort.responses.base import find_words
from flowsheet.config import EvaluationConfig, Protocol, Target, TaskConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.study import StudyFacts


@dataclass(frozen=True)
class CohortReport:
    """The patients that the results are about."""

    source: str
    licence: str = ""
    is_simulated: bool = False
    """The patients are invented."""
    warnings: tuple[str, ...] = ()
    """What the records lack."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """E.g. subjects, stays, events; shown in this order."""
    attrition: tuple[tuple[str, int], ...] = ()
    """Stays that remain after each selection step, in order."""
    quarantined: tuple[tuple[str, str, int], ...] = ()
    """(table, rule, rows) that were quarantined."""
    parts: pl.DataFrame = field(default_factory=pl.DataFrame)
    """part, subjects, stays, rows, events, and where known scored_stays (with a row),
    new_onset_rows and new_onsets: one row for each of training, validation and test."""
    missing_shares: Mapping[str, float] = field(default_factory=dict)
    """By variable, the share of rows where no value is known."""
    prevalence: pl.DataFrame = field(default_factory=pl.DataFrame)
    """by, group, stays, with_episode, share: stays with an episode, by care unit, database, ..."""
    processing_counts: Mapping[str, int] = field(default_factory=dict)
    """What the source read, excluded or corrected, under the source's own names."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The options that the cohort was selected with."""


@dataclass(frozen=True)
class ModelReport:
    """One model: what it is, how it was tuned, what it learned."""

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
    """As ``Model.tables()`` returns them. With a first column of numbers (epoch, round) the last
    column is drawn as a curve, with one of names the second column as bars."""
    seconds: float | None = None
    importance: pl.DataFrame = field(default_factory=pl.DataFrame)
    """parameter, importance: each parameter's share of the variance of the tuned score."""
    importance_unavailable: str = ""
    """Why there is no importance table; empty where there is one."""


@dataclass(frozen=True)
class PatientReport:
    """One held-out stay, as somebody at the bedside would follow it."""

    title: str
    """Why the stay is shown, e.g. "Found early"."""
    description: str
    chart: Any
    """Of ``charts.stay_timeline``."""
    reasons: tuple[str, ...] = ()
    """Why the risk rose, one sentence each."""


@dataclass(frozen=True)
class Section:
    """A rendered section of the page, with its entry in the page's navigation."""

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
    """How the models were evaluated; see :func:`describe_protocol`."""
    cohort: CohortReport | None = None
    study: StudyFacts | None = None
    """Outcome, flow of participants, characteristics, missing data and sample size."""
    opening_sections: tuple[Section, ...] = ()
    """Sections that come before everything else."""
    task: TaskConfig | None = None
    """Units of times; without it they are hours."""
    patients: tuple[PatientReport, ...] = ()
    """Stays that are shown over time."""
    sections: tuple[Section, ...] = ()
    """Sections of special studies, shown after the results."""
    excluded_models: Mapping[str, str] = field(default_factory=dict)
    """Models that do not apply to the task, and why."""
    models: tuple[ModelReport, ...] = ()
    record: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Groups of facts: {"Fingerprints": {...}, "Versions": {...}, "Seeds": {...}, ...}."""
    config_yaml: str = ""
    created_at: str = ""


def describe_task(task: TaskConfig) -> str:
    """The task in a sentence.

    >>> describe_task(TaskConfig(name="next_day"))
    'Once every 24 hours of a stay: will the patient be septic at some time in the next 24 hours?'
    """
    words = find_words(task.response)
    step = "hour" if task.step_hours == 1 else f"{task.step_hours:g} hours"
    first = " for the first time" if words.recurs else ""
    event = f"be {words.state}" if task.target is Target.state else f"{words.enter}{first}"
    if task.at_hours is not None:
        hours = 0 if task.horizon is None else task.step_hours * task.horizon
        window = f"in the next {hours:g} hours" if hours else "after that"
        return (
            f"Once a stay, {task.at_hours:g} h after admission: will the patient {event} {window}?"
        )
    if task.cutoff_hours is not None:
        rest = task.step_hours - task.cutoff_hours
        return (
            f"Once every {step} of a stay, {task.cutoff_hours:g} h into it: will the patient "
            f"{event} at some time in the remaining {rest:g} hours?"
        )
    ahead = task.step_hours * (task.horizon or 0)
    return (
        f"Once every {step} of a stay: will the patient {event} at some time in the next "
        f"{ahead:g} hours?"
    )


def describe_protocol(config: EvaluationConfig) -> str:
    """How models are evaluated, in two sentences.

    >>> describe_protocol(EvaluationConfig(name="e", test=0.25)).split(". ")[0]
    'Hold-out: a random 25% of the subjects, drawn once, are held out'
    """
    validation = f"{config.validation:.0%} of all subjects"
    development = "for tuning, early stopping and decision thresholds"
    within_folds = (
        f"Within each fold, {validation}, none of them held out there, are used {development}."
    )
    if config.protocol is Protocol.cross_validation:
        repetitions = "" if config.repeats == 1 else f", {config.repeats} times at random,"
        return (
            f"Nested cross-validation: the subjects are split into {config.folds} folds"
            f"{repetitions} and every subject is predicted by models that were trained without it. "
            f"{within_folds}"
        )
    if config.protocol is Protocol.site and not config.sites:
        return (
            "Hold-out by site: each site in turn is predicted by models that were trained without "
            f"it. {within_folds}"
        )
    held_out = {
        Protocol.holdout: f"Hold-out: a random {config.test:.0%} of the subjects, drawn once,",
        Protocol.temporal: f"Temporal hold-out: the {config.test:.0%} most recent subjects",
        Protocol.site: f"Hold-out by site: the subjects of {', '.join(config.sites)}",
    }[config.protocol]
    return f"{held_out} are held out. Of the others, {validation} are used {development}."
