"""Every pair of models: a matrix by the leading metric, a table by the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

from flowsheet.evaluation import summaries
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import SUBSET_TITLES
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.subsets import ALL

MARKS = {
    summaries.BETTER: ("better", "▲"),
    summaries.WORSE: ("worse", "▼"),
    summaries.SAME: ("same", "≈"),
    summaries.UNKNOWN: ("unknown", "?"),
}
MIRROR = {summaries.BETTER: summaries.WORSE, summaries.WORSE: summaries.BETTER}


@dataclass(frozen=True)
class Matrix:
    """Every pair of models."""

    label: str
    how: str
    cells: dict[
        tuple[str, str], tuple[str, str, str]
    ]  # (row, column): CSS class, mark and figure, verdict
    first: list[str]  # sentences about the best model
    rest: list[str]  # and about the other pairs
    others: list[tuple[str, list[dict[str, str]]]]  # for each subset: title, lines of a table


def matrix(evidence: Evidence) -> Matrix | None:
    """The leading metric as a matrix, the others as a table; None where there is nothing to compare."""
    if evidence.pairs.is_empty():
        return None
    leading = evidence.pairs.filter(
        pl.col("metric") == evidence.about["metric"], pl.col("subset") == ALL
    )
    cells = {}
    for row in leading.iter_rows(named=True):
        a, b, verdict = row["model_a"], row["model_b"], row["verdict"]
        cells[a, b] = _cell(verdict, row["difference"])
        cells[b, a] = _cell(MIRROR.get(verdict, verdict), -row["difference"])
    others = [
        (
            title,
            [
                _line(row)
                for row in evidence.pairs.filter(pl.col("subset") == subset).iter_rows(named=True)
            ],
        )
        for subset, title in SUBSET_TITLES.items()
        if subset in evidence.pairs["subset"]
    ]
    said, rivals = leading["summary"].to_list(), len(evidence.models) - 1
    label = METRICS.get(evidence.about["metric"]).label
    return Matrix(label, how_compared(evidence), cells, said[:rivals], said[rivals:], others)


def how_compared(evidence: Evidence) -> str:
    """Which test the verdicts come from, and how far they can be trusted."""
    told, test = (
        evidence.about["cross_validation"],
        "Each pair is compared on the same resamples of the same subjects.",
    )
    if told and not told["random"]:
        test += (
            " Each subject was judged by models that had not seen the site; the intervals tell nothing of how sites"
            " that are not among these would differ."
        )
    elif told:
        test = (
            f"Each pair is compared by its figures on the {told['repeats'] * told['folds']} folds, with a t-test that"
            " is corrected for the training subjects that folds share (Nadeau and Bengio 2003). A difference is the"
            " mean over the folds, and so not quite that of the figures above, which judge all predictions together."
        )
    return (
        f"{test} The verdict is corrected for the number of pairs (Holm), so that among models that are all alike, one"
        f" is called different in no more than {1 - evidence.about['confidence']:.0%} of such reports. Metrics are not"
        " corrected for each other."
    )


def _cell(said: str, difference: float) -> tuple[str, str, str]:
    css, mark = MARKS[said]
    return css, mark if math.isnan(difference) else f"{mark} {difference:+.3f}", said


def _line(row: dict[str, Any]) -> dict[str, str]:
    known = not math.isnan(row["p_holm"])
    return {
        "metric": METRICS.get(row["metric"]).label,
        "pair": f"{row['model_a']} - {row['model_b']}",
        "difference": "" if math.isnan(row["difference"]) else f"{row['difference']:+.4f}",
        "interval": f"[{row['low']:+.4f}, {row['high']:+.4f}]" if known else "",
        "p": summaries.format_p_value(row["p_holm"]) if known else "",
        "verdict": row["verdict"],
    }
