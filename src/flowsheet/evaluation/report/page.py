"""The report of an experiment: the content of each section, laid out by the templates here."""

from __future__ import annotations

import polars as pl

from flowsheet.config import CLOCK, FLOOR_MODELS
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import describe_intervals
from flowsheet.evaluation.report.bedside import make_bedside
from flowsheet.evaluation.report.cohort import prepare_cohort
from flowsheet.evaluation.report.data import ReportData
from flowsheet.evaluation.report.differences import make_matrix
from flowsheet.evaluation.report.figures import make_alert_section, make_curve_figures
from flowsheet.evaluation.report.models import prepare_models
from flowsheet.evaluation.report.subgroups import make_subgroup_section
from flowsheet.evaluation.report.tables import css_class, make_leaderboards
from flowsheet.evaluation.report.templates import make_environment

IMPORTANCE_TABLE = "global_importance"
"""Of a model's tables, the one that says what its risks follow from."""


def _find_importance(report: ReportData) -> pl.DataFrame | None:
    """What the risks of the model that ranks first follow from."""
    first = report.evidence.models[0]
    tables = [model.tables for model in report.models if model.name == first]
    return tables[0].get(IMPORTANCE_TABLE) if tables else None


def _list_compared(evidence: Evidence) -> list[str]:
    """The titles of the models whose alerts are shown: not the floor, but for the clock."""
    names = [name for name in evidence.models if name == CLOCK or name not in FLOOR_MODELS]
    return [evidence.titles[name] for name in names or evidence.models]


def render(report: ReportData) -> str:
    """The whole page as HTML: its own scripts only, nothing loaded, every name escaped."""
    evidence = report.evidence.with_titles()
    leaderboards = make_leaderboards(evidence)
    return (
        make_environment()
        .get_template("page.html")
        .render(
            report=report,
            evidence=evidence,
            bedside=make_bedside(evidence, report.task, _find_importance(report)),
            leaderboards=leaderboards,
            counts={board.subset: board.counts for board in leaderboards},
            legend=[(css_class(rank), name) for rank, name in enumerate(evidence.models)],
            interval_note=describe_intervals(evidence),
            matrix=make_matrix(evidence),
            curve_figures=make_curve_figures(evidence),
            alerts=make_alert_section(evidence, report.task, _list_compared(report.evidence)),
            subgroups=make_subgroup_section(evidence),
            cohort=prepare_cohort(report.cohort, report.study) if report.cohort else None,
            study=report.study,
            models=prepare_models(report),
            titles=report.evidence.titles,
        )
    )
