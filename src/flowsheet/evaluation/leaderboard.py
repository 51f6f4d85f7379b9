"""The leaderboard for a terminal and for a page of text."""

from __future__ import annotations

import polars as pl

from flowsheet.evaluation import summaries
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.metrics import METRICS, Metric

SHOWN = (
    *("auroc", "auprc", "normalised_utility", "brier", "log_loss", "calibration_slope"),
    *("episodes_detected", "lead_time"),
)
"""In a short table, after the metric that ranks."""

SUBSET_TITLES = {
    "all": "All rows",
    "new_onsets": "New onsets (patients not septic at prediction)",
    "stays": "Per stay (the highest probability before the first sepsis)",
}


def leaderboard_table(evidence: Evidence, subset: str = "all") -> list[list[str]]:
    """The head and one row for each model, best first, in words that fit a terminal."""
    board = evidence.leaderboard.filter(pl.col("subset") == subset)
    known = set(board["metric"])
    shown = [m for m in dict.fromkeys([evidence.about["metric"], *SHOWN]) if m in known]
    figures = {(row["model"], row["metric"]): row for row in board.iter_rows(named=True)}
    metrics = [METRICS.get(name)() for name in shown]
    rows = [
        [model, *(_cell(figures.get((model, m.name)), m) for m in metrics)]
        for model in evidence.models
    ]
    return [["model", *(metric.label for metric in metrics)], *rows]


def _cell(figure: dict[str, float] | None, metric: Metric) -> str:
    return (
        ""
        if figure is None
        else summaries.format_estimate(
            figure["value"], figure["low"], figure["high"], metric.decimals
        )
    )


def leaderboard_markdown(evidence: Evidence) -> str:
    """The headline, a table for all rows and for transitions in, and what the brackets mean."""
    lines = [evidence.headline, ""]
    for subset, title in SUBSET_TITLES.items():
        if subset in evidence.about["subsets"]:
            lines += [
                f"**{title}** ({_counts(evidence, subset)})",
                "",
                *_markdown(leaderboard_table(evidence, subset)),
                "",
            ]
    lines.append(describe_intervals(evidence))
    return "\n".join(lines) + "\n"


def _counts(evidence: Evidence, subset: str) -> str:
    board = evidence.leaderboard.filter(pl.col("subset") == subset)
    if board.is_empty():
        return "no figures"
    first = board.row(0, named=True)
    unit = "stays" if subset == "stays" else "rows"
    return f"{first['rows']:,} {unit}, {first['events']:,} with the event, {first['subjects']:,} subjects"


def _markdown(rows: list[list[str]]) -> list[str]:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *body)]


def describe_intervals(evidence: Evidence) -> str:
    """What the figures are, and what the brackets mean."""
    resamples, confidence = evidence.about["resamples"], evidence.about["confidence"]
    brackets = (
        f"In brackets: {confidence:.0%} intervals from {resamples:,} bootstrap resamples of the subjects."
        if resamples
        else "No intervals: evaluation.resamples is 0."
    )
    return f"{pooled(evidence)} {brackets}".strip()


def pooled(evidence: Evidence) -> str:
    """What a figure of cross-validation is; empty without."""
    told = evidence.about["cross_validation"]
    if not told:
        return ""
    times = (
        ""
        if told["repeats"] == 1
        else f", and the figure is the mean of {told['repeats']} repetitions"
    )
    return (
        f"Cross-validation with {told['folds']} folds: every subject is predicted by models that never saw it; the"
        f" predictions of all folds are judged together{times}."
    )
