"""The differences section: a matrix of pairs by the ranking metric, a table of pairs by all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet import charts
from flowsheet.charts.style import Chart
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import order_subsets
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.summaries import (
    BETTER,
    NOT_ESTIMABLE,
    SAME,
    WORSE,
    format_p_value,
)

MARKS = {
    BETTER: ("better", "▲"),
    WORSE: ("worse", "▼"),
    SAME: ("same", "≈"),
    NOT_ESTIMABLE: ("not-estimable", "?"),
}
"""CSS class and symbol of each verdict."""
REVERSED = {BETTER: WORSE, WORSE: BETTER}


@dataclass(frozen=True)
class MatrixCell:
    """Row model compared with column model."""

    css: str
    text: str
    verdict: str


@dataclass(frozen=True)
class DifferenceMatrix:
    """Every pair of models."""

    label: str
    method: str
    chart: Chart | None
    """The best model against each other one."""
    cells: dict[tuple[str, str], MatrixCell]  # by (row, column)
    best_model_summaries: list[str]
    other_summaries: list[str]
    pair_tables: list[tuple[str, list[dict[str, str]]]]  # for each subset: title, rows


def make_matrix(evidence: Evidence) -> DifferenceMatrix | None:
    """The pairs of models; None where there is nothing to compare."""
    if evidence.pairs.is_empty():
        return None
    subset = evidence.ranking_subset
    ranking = evidence.pairs.filter(metric=evidence.about["metric"], subset=subset)
    cells = {}
    for row in ranking.iter_rows(named=True):
        a, b, verdict = row["model_a"], row["model_b"], row["verdict"]
        cells[a, b] = _make_cell(verdict, row["difference"])
        cells[b, a] = _make_cell(REVERSED.get(verdict, verdict), -row["difference"])
    summaries = ranking["summary"].to_list()
    best = ranking.filter(model_a=evidence.models[0])
    n_rivals = len(best)
    label = get_metric(evidence.about["metric"]).label
    return DifferenceMatrix(
        chart=charts.differences(best, label) if len(best) else None,
        label=label + describe_subset(subset, evidence.words),
        method=describe_comparison(evidence),
        cells=cells,
        best_model_summaries=summaries[:n_rivals],
        other_summaries=summaries[n_rivals:],
        pair_tables=[
            (title, _pair_rows(evidence, subset))
            for subset, title in order_subsets(evidence).items()
            if subset in evidence.pairs["subset"]
        ],
    )


def describe_comparison(evidence: Evidence) -> str:
    """Which test the verdicts come from, and how they are corrected."""
    facts = evidence.about["cross_validation"]
    if not facts:
        test = "Each pair is compared on the same resamples of the same subjects."
    elif not facts["has_random_folds"]:
        test = (
            "Each pair is compared on the same resamples of the same subjects. Each subject was "
            "predicted by models that had not seen the site; the intervals do not cover "
            "differences between these sites and others."
        )
    else:
        n_folds = facts["repeats"] * facts["folds"]
        test = (
            f"Each pair is compared by its values in the {n_folds} folds, with a t-test that is "
            "corrected for the training subjects that folds share (Nadeau and Bengio 2003). A "
            "difference is the mean over the folds, and therefore not exactly the difference of "
            "the values above, which pool all predictions."
        )
    alpha = 1 - evidence.about["confidence"]
    return (
        f"{test} The verdict is corrected for the number of pairs (Holm): where all models perform "
        f"equally well, at most {alpha:.0%} of such reports call any pair different. It is not "
        "corrected for the number of metrics."
    )


def _make_cell(verdict: str, difference: float) -> MatrixCell:
    css, symbol = MARKS[verdict]
    text = symbol if math.isnan(difference) else f"{symbol} {difference:+.3f}"
    return MatrixCell(css, text, verdict)


def _pair_rows(evidence: Evidence, subset: str) -> list[dict[str, str]]:
    pairs = evidence.pairs.filter(pl.col("subset") == subset)
    return [_pair_row(row) for row in pairs.iter_rows(named=True)]


def _pair_row(row: dict[str, Any]) -> dict[str, str]:
    is_estimable = not math.isnan(row["p_holm"])
    return {
        "metric": get_metric(row["metric"]).label,
        "pair": f"{row['model_a']} - {row['model_b']}",
        "difference": "" if math.isnan(row["difference"]) else f"{row['difference']:+.4f}",
        "interval": f"[{row['low']:+.4f}, {row['high']:+.4f}]" if is_estimable else "",
        "p": format_p_value(row["p_holm"]) if is_estimable else "",
        "verdict": row["verdict"],
    }
