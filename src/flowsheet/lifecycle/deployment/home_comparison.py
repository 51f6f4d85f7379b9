"""How the patients and the figures of another extract differ from those at a model's home."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.responses.base import Words, find_words
from flowsheet.cohort.schema import Tables
from flowsheet.config import FrozenModel, MonitoringConfig
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.lifecycle.experiment.reference_data import StayRisks
from flowsheet.monitoring.descriptions import property_label
from flowsheet.monitoring.findings import Finding, Findings, find_changes
from flowsheet.monitoring.profile import build_profile_sequences, compute_profile
from flowsheet.monitoring.reference import Reference
from flowsheet.prediction.development import SeenSubjects
from flowsheet.prediction.model_package import ModelPackage

_KEYS = ["subset", "metric"]
_MAX_NAMES = 12
_COHORT = ("demographics", "length_of_stay")
_OTHERS = ("measured_value", "measurement_rate", "treatment_exposure")


class HomeDifference(FrozenModel):
    """One way in which the extract differs from the model's home."""

    topic: str
    """subjects, variables, units, prevalence, cohort or charting."""
    summary: str


@dataclass(frozen=True)
class CohortRow:
    """One property of the patients, as means over stays or shares."""

    label: str
    home: float | None
    here: float | None


@dataclass(frozen=True)
class HomeComparison:
    """A model at home and here."""

    differences: tuple[HomeDifference, ...]
    cohort: tuple[CohortRow, ...]
    figures: pl.DataFrame
    """subset, metric, home, home_low, home_high, here, here_low, here_high."""


def compare_with_home(
    package: ModelPackage,
    extract: Extract,
    tables: Tables,
    risks: StayRisks,
    seen: SeenSubjects,
    *,
    home: pl.DataFrame,
    here: pl.DataFrame,
) -> HomeComparison:
    """Compare the evaluated patients and figures of a model with those at its home.

    Args:
        package: the model, whose reference describes the patients at home.
        extract: the evaluated extract.
        tables: the tables of its evaluated stays.
        risks: the stays and their risks.
        seen: the subjects that were left out, and those with known identifiers.
        home: the model's rows of the leaderboard of its experiment.
        here: the model's rows of the leaderboard of the evaluation.
    """
    findings = _find_changes(package, tables, risks)
    properties = findings.findings if findings else ()
    cohort = tuple(
        CohortRow(property_label(f.kind, f.name), f.reference_value, f.current_value)
        for f in properties
        if f.kind in _COHORT
    )
    differences = (
        *_describe_subjects(seen),
        *_list_absent(package, extract),
        *_describe_units(properties),
        *describe_prevalence(home, here, find_words(package.task.response)),
        *_describe_flags(findings),
    )
    return HomeComparison(differences, cohort, join_figures(home, here))


def join_figures(home: pl.DataFrame, here: pl.DataFrame) -> pl.DataFrame:
    """The figures of two leaderboards of one model beside each other, subgroups included."""

    def select(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        columns = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
        return frame.select(*_KEYS, *columns).rename(columns)

    return select(here, "here").join(
        select(home, "home"), on=_KEYS, how="left", maintain_order="left"
    )


def _find_changes(package: ModelPackage, tables: Tables, risks: StayRisks) -> Findings | None:
    if package.reference is None:
        return None
    reference = Reference.parse(package.reference, str(package.folder))
    columns = package.columns
    sequences = build_profile_sequences(
        tables,
        package.task,
        package.features,
        columns["variables"],
        columns["drugs"],
        columns["vocabulary"],
    )
    config = MonitoringConfig(name="evaluation")
    return find_changes(reference, compute_profile(sequences), risks.to_frame(), config)


def _describe_subjects(seen: SeenSubjects) -> Iterator[HomeDifference]:
    if len(seen.seen):
        yield HomeDifference(
            topic="subjects",
            summary=f"{len(seen.seen):,} subjects on whom the model was developed are left out.",
        )
    if seen.n_namesakes:
        yield HomeDifference(
            topic="subjects",
            summary=f"{seen.n_namesakes:,} subjects have the identifiers of subjects on whom the "
            "model was developed, but other stays: they are taken for other people.",
        )


def _list_absent(package: ModelPackage, extract: Extract) -> Iterator[HomeDifference]:
    manifest, columns = extract.manifest, package.columns
    for kind, wanted, available in (
        ("variables", columns["variables"], manifest.variables),
        ("drugs", columns["drugs"], manifest.drugs),
    ):
        absent = sorted(set(wanted) - set(available))
        if absent:
            more = f" and {len(absent) - _MAX_NAMES} more" if len(absent) > _MAX_NAMES else ""
            yield HomeDifference(
                topic="variables",
                summary=f"The extract lacks {len(absent)} of the {len(wanted)} {kind} that the "
                f"model takes, which it treats as never recorded: "
                f"{', '.join(absent[:_MAX_NAMES])}{more}.",
            )


def _describe_units(findings: tuple[Finding, ...]) -> Iterator[HomeDifference]:
    for finding in findings:
        if finding.flagged and finding.suspected_unit:
            yield HomeDifference(topic="units", summary=f"{finding.summary}.")


def describe_prevalence(
    home: pl.DataFrame, here: pl.DataFrame, words: Words
) -> Iterator[HomeDifference]:
    """How often the event follows, here and at home, over all rows and for new onsets."""
    for subset, who in ((ALL, ""), (NEW_ONSETS, f" of patients {words.not_yet}")):
        shares = []
        for leaderboard in (here, home):
            counts = leaderboard.filter(subset=subset).head(1)
            rows, events = int(counts["rows"].sum()), int(counts["events"].sum())
            share = events / rows if rows else math.nan
            shares.append(f"{share:.2%} of {rows:,} predictions{who}")
        if here.filter(subset=subset).height:
            yield HomeDifference(
                topic="prevalence",
                summary=f"The event follows {shares[0]}; at home {shares[1]}.",
            )


def _describe_flags(findings: Findings | None) -> Iterator[HomeDifference]:
    if findings is None:
        yield HomeDifference(
            topic="cohort", summary="The model has no reference: its patients are not described."
        )
        return
    flags = [f for f in findings.flags if not f.suspected_unit]
    for kinds, topic in ((_COHORT, "cohort"), (_OTHERS, "charting")):
        for finding in [f for f in flags if f.kind in kinds][:_MAX_NAMES]:
            yield HomeDifference(topic=topic, summary=f"{finding.summary}.")


def select_model(evidence: Evidence, model: str) -> pl.DataFrame:
    """The model's rows of the leaderboard."""
    return evidence.leaderboard.filter(model=model)


def describe_metric(figures: pl.DataFrame, metric: str, subset: str) -> str:
    """A metric here and at home, in words."""
    row = figures.filter(metric=metric, subset=subset)
    if row.is_empty():
        return f"{get_metric(metric).label} is not estimable"
    values = row.row(0, named=True)

    def form(name: str) -> str:
        numbers = [values[name + suffix] for suffix in ("", "_low", "_high")]
        value, low, high = (math.nan if number is None else number for number in numbers)
        return format_estimate(value, low, high, get_metric(metric).decimals)

    return f"{get_metric(metric).label} {form('here')}, at home {form('home')}"
