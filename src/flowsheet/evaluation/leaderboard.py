"""The leaderboard as text: for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from flowsheet.config import FrozenModel
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.subset_names import list_subset_titles
from flowsheet.evaluation.subsets import ALL, NEW_ONSETS, STAYS
from flowsheet.evaluation.summaries import format_estimate

LEADING_METRICS = (
    *("auroc", "auroc_above_clock", "auroc_within_step", "auprc"),
    *("normalised_utility", "normalised_utility_above_clock"),
    *("brier", "log_loss", "calibration_slope", "episodes_detected", "lead_time"),
)
"""The columns of a short table, after the metric that ranks it."""


class LeaderboardTable(FrozenModel):
    """The leaderboard of one subset as texts that fit a terminal."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    """One for each model, best first; its name, then its values."""

    def with_titles(self, titles: Mapping[str, str]) -> LeaderboardTable:
        """The same with the models' titles in place of their names."""
        rows = [[titles.get(row[0], row[0]), *row[1:]] for row in self.rows]
        return self.model_copy(update={"rows": rows})


def order_subsets(evidence: Evidence) -> dict[str, str]:
    """The evaluated subsets but subgroups and their titles, the one that ranks the models first."""
    evaluated = set(evidence.about["subsets"])
    all_titles = list_subset_titles(evidence.words)
    titles = {name: title for name, title in all_titles.items() if name in evaluated}
    ranking = evidence.ranking_subset
    return {ranking: titles[ranking], **titles} if ranking in titles else titles


def list_leaderboard_tables(evidence: Evidence) -> list[LeaderboardTable]:
    """All rows and new onsets where they are a part; what ranks the models comes first."""
    tables = []
    for subset, title in order_subsets(evidence).items():
        if subset in {ALL, NEW_ONSETS}:
            columns, *rows = make_leaderboard_table(evidence, subset)
            heading = f"{title}: {_describe_counts(evidence, subset)}"
            tables.append(LeaderboardTable(title=heading, columns=columns, rows=rows))
    return tables


def make_leaderboard_table(evidence: Evidence, subset: str = ALL) -> list[list[str]]:
    """The head and one row for each model, best first, as texts that fit a terminal."""
    rows = evidence.leaderboard.filter(pl.col("subset") == subset)
    metrics = [get_metric(name) for name in select_leading_metrics(evidence, rows)]
    estimates = {(row["model"], row["metric"]): row for row in rows.iter_rows(named=True)}
    lines = [["model", *(metric.label for metric in metrics)]]
    for model in evidence.models:
        cells = [_format_cell(estimates.get((model, metric.name)), metric) for metric in metrics]
        lines.append([model, *cells])
    return lines


def select_leading_metrics(evidence: Evidence, rows: pl.DataFrame) -> list[str]:
    """The metrics of a short table, as far as the leaderboard's ``rows`` have them."""
    available = set(rows["metric"])
    ordered = dict.fromkeys([evidence.about["metric"], *LEADING_METRICS])
    return [metric for metric in ordered if metric in available]


def _format_cell(estimate: dict[str, float] | None, metric: Metric) -> str:
    if estimate is None:
        return ""
    return format_estimate(estimate["value"], estimate["low"], estimate["high"], metric.decimals)


def render_leaderboard_markdown(evidence: Evidence, max_tables: int | None = None) -> str:
    """The headline, a table for each subset but subgroups, and a note on the intervals.

    With ``max_tables`` the first ones only, which begin with the subset that ranks the models.
    """
    evidence = evidence.with_titles()
    lines = [evidence.headline, ""]
    for subset, title in list(order_subsets(evidence).items())[:max_tables]:
        lines += [
            f"**{title}** ({_describe_counts(evidence, subset)})",
            "",
            *_markdown_table(make_leaderboard_table(evidence, subset)),
            "",
        ]
    lines.append(describe_intervals(evidence))
    return "\n".join(lines) + "\n"


def _describe_counts(evidence: Evidence, subset: str) -> str:
    rows = evidence.leaderboard.filter(pl.col("subset") == subset)
    if rows.is_empty():
        return "no metrics"
    first = rows.row(0, named=True)
    unit = "stays" if subset == STAYS else "rows"
    return (
        f"{first['rows']:,} {unit}, {first['events']:,} with the event, "
        f"{first['subjects']:,} subjects"
    )


def _markdown_table(rows: list[list[str]]) -> list[str]:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def describe_intervals(evidence: Evidence) -> str:
    """How the values were computed, and what the brackets are."""
    resamples, confidence = evidence.about["resamples"], evidence.about["confidence"]
    if resamples:
        intervals = (
            f"In brackets: {confidence:.0%} intervals from {resamples:,} bootstrap resamples of "
            "the subjects."
        )
    else:
        intervals = "No intervals: evaluation.resamples is 0."
    return f"{_describe_cross_validation(evidence)} {intervals}".strip()


def _describe_cross_validation(evidence: Evidence) -> str:
    """How cross-validated values were computed; empty without cross-validation."""
    facts = evidence.about["cross_validation"]
    if not facts:
        return ""
    repetitions = ""
    if facts["repeats"] > 1:
        repetitions = f", and the values are means of {facts['repeats']} repetitions"
    return (
        f"Cross-validation with {facts['folds']} folds: every subject is predicted by models that "
        "were trained without it; the predictions of all folds are evaluated "
        f"together{repetitions}."
    )
