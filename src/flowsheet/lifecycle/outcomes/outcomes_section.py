"""The section of the report that comes first: what was judged, and the verdicts on challengers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from flowsheet.evaluation.leaderboard import LEADING_METRICS
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.data import Section
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.evaluation.summaries import format_value_and_interval
from flowsheet.lifecycle.outcomes.answers import RULE
from flowsheet.tracking.live_verdicts import LiveVerdict

if TYPE_CHECKING:
    from flowsheet.lifecycle.outcomes.outcomes import JudgedVersion


def render_outcomes_section(
    versions: Sequence[JudgedVersion],
    verdicts: Sequence[LiveVerdict],
    not_judged: Sequence[str],
) -> Section:
    """The section.

    Args:
        versions: the judged versions.
        verdicts: on challengers.
        not_judged: why there is no result of others.
    """
    html = (
        make_environment(Path(__file__).parent)
        .get_template("outcomes_section.html")
        .render(
            rule=RULE,
            versions=versions,
            not_judged=not_judged,
            verdicts=[(verdict, *_format_differences(verdict)) for verdict in verdicts],
        )
    )
    return Section("answers", "Answers and outcomes", Markup(html))


_Differences = list[tuple[str, tuple[str, str]]]
"""(metric, difference and interval as texts)."""


def _format_differences(verdict: LiveVerdict) -> tuple[_Differences, _Differences]:
    """The leading metrics, that of the verdict first, and the others."""
    leading = [m for m in (verdict.metric, *LEADING_METRICS) if m in verdict.differences]
    names = dict.fromkeys([*leading, *verdict.differences])
    rows = [
        (
            get_metric(metric).label,
            format_value_and_interval(
                *verdict.differences[metric], get_metric(metric).decimals + 1
            ),
        )
        for metric in names
    ]
    n_leading = len(dict.fromkeys(leading))
    return rows[:n_leading], rows[n_leading:]
