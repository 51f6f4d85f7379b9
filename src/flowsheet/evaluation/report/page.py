"""The report of an experiment: the content of each section, laid out by the templates here."""

from __future__ import annotations

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
            bedside=make_bedside(evidence, report.task),
            leaderboards=leaderboards,
            counts={board.subset: board.counts for board in leaderboards},
            legend=[(css_class(rank), name) for rank, name in enumerate(evidence.models)],
            interval_note=describe_intervals(evidence),
            matrix=make_matrix(evidence),
            curve_figures=make_curve_figures(evidence),
            alerts=make_alert_section(evidence, report.task),
            subgroups=make_subgroup_section(evidence),
            cohort=prepare_cohort(report.cohort, report.study) if report.cohort else None,
            study=report.study,
            models=prepare_models(report),
            titles=report.evidence.titles,
        )
    )
