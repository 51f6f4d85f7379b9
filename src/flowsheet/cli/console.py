"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table

from flowsheet.cohort.extract import Extract
from flowsheet.evaluation.leaderboard import leaderboard_table
from flowsheet.tracking.run_metadata import flatten

if TYPE_CHECKING:
    from flowsheet.lifecycle.deployment.compare_models import ModelComparison
    from flowsheet.lifecycle.deployment.monitoring import MonitoringResult
    from flowsheet.lifecycle.deployment.promotion import PromotionResult
    from flowsheet.lifecycle.experiment.record import RunSummary
    from flowsheet.lifecycle.experiment.rerun import RerunResult, ValueDiff

_SHOWN_FAILURES = 40
_SHOWN_PARAMETERS = 60  # a simulated ward has hundreds: its manifest tells them
_SHOWN_REASONS = 20
_PIPE_WIDTH = 160


def console() -> Console:
    """Standard output; wide enough for its tables where it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def leaderboard(outcome: RunSummary, out: Console) -> None:
    """The ranking of an experiment, what was reused, and where to look next."""
    out.print(table(f"{outcome.experiment}: held-out subjects", outcome.columns, outcome.rows))
    out.print(outcome.headline, highlight=False)
    for name, reason in outcome.excluded_models.items():
        out.print(f"{name} was left out: {reason}", highlight=False)
    if outcome.reused:
        out.print(f"reused: {', '.join(outcome.reused)}", highlight=False)
    for line in (f"run {outcome.run_id}", *outcome.registered, f"report {outcome.report}"):
        out.print(line, highlight=False, soft_wrap=True)
    out.print("see the pages with: flowsheet ui", highlight=False)


def comparison(made: ModelComparison, out: Console) -> None:
    """The ranking, a sentence for each pair, and where to look next."""
    columns, *rows = leaderboard_table(made.evidence)
    out.print(table("held-out subjects", columns, rows))
    place = {name: i for i, name in enumerate(made.evidence.models)}
    for pair in made.evidence.pairs.filter(
        metric=made.evidence.about["metric"], subset="all"
    ).iter_rows(named=True):
        if place[pair["model_a"]] < place[pair["model_b"]]:  # each pair once, the better one first
            out.print(pair["summary"], highlight=False)
    out.print(f"run {made.run_id}", highlight=False)
    out.print(f"report {made.report}", highlight=False, soft_wrap=True)


def rerun(done: RerunResult, out: Console) -> None:
    """Figure by figure: then, now, equal."""
    if done.changes:
        rows = [[line.name, _short(line.old), _short(line.new)] for line in done.changes]
        out.print(table("what changed since", ["", "then", "now"], rows))
    shown = [
        line
        for line in done.metrics
        if not (line.is_equal and line.name.endswith((".low", ".high")))
    ]
    figures = [[line.name, _short(line.old), _short(line.new), _verdict(line)] for line in shown]
    out.print(table("figures on the held-out subjects", ["", "then", "now", ""], figures))
    equal = sum(line.is_equal for line in done.metrics)
    out.print(
        f"{equal} of {len(done.metrics)} figures, bounds of intervals included, are equal to the last bit",
        highlight=False,
    )
    out.print(f"run {done.new_run}", highlight=False)


def gates(verdict: PromotionResult, out: Console) -> None:
    """Gate by gate, and what was decided."""
    decision = verdict.decision
    rows = [
        [gate.name, "passed" if gate.passed else "failed", gate.summary] for gate in verdict.gates
    ]
    out.print(table(f"{decision.name}/{decision.version}", ["gate", "", "figures"], rows))
    former = (
        f", in place of version {decision.previous_version}"
        if decision.previous_version and verdict.promoted
        else ""
    )
    out.print(f"{decision.name}/{decision.version} was {decision.action}{former}", highlight=False)
    out.print(f"decision {decision.number} by {decision.actor}: {decision.reason}", highlight=False)


def monitored(done: MonitoringResult, out: Console) -> None:
    """What is flagged, and where to look."""
    out.print(
        f"{done.model}/{done.version} on {done.stays:,} stays: {len(done.flags)} of {done.tests} properties are "
        f"flagged (chance of any false flag: at most {done.alpha:.2g})",
        highlight=False,
    )
    for flag in done.flags:
        out.print(f"- {flag.summary}", highlight=False, markup=False)
    out.print(f"run {done.run_id}", highlight=False)
    out.print(f"report {done.report}", highlight=False, soft_wrap=True)


def _short(value: str | float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else value[:16]


def _verdict(line: ValueDiff) -> str:
    if line.is_equal:
        return "equal"
    if isinstance(line.old, float) and isinstance(line.new, float):
        return f"differs by {line.new - line.old:+.3g}"
    return "differs"


def extract(made: Extract, out: Console) -> None:
    """What an extract holds, what was lost on the way, and where it is."""
    manifest = made.manifest
    out.print(table(f"cohort extract from {manifest.source.name}", ["", "rows"], _counts(made)))
    if manifest.attrition:
        rows = [[step, f"{stays:,}"] for step, stays in manifest.attrition]
        out.print(table("attrition", ["step", "stays left"], rows))
    if manifest.exclusions:
        out.print(table("left out by the source's rules", ["reason", "raw rows"], _reasons(made)))
    if manifest.source_counts:
        rows = [[what, f"{n:,}"] for what, n in manifest.source_counts]
        out.print(table("met on the way", ["", "count"], rows))
        for line in _parameters(made):
            out.print(line, highlight=False)
    if len(manifest.prevalence) > 1 and manifest.counts.get("stays_with_episode"):
        out.print(
            table(
                "stays with an episode",
                ["by", "group", "stays", "with", "share"],
                _prevalence(made),
            )
        )
    if manifest.quarantined:
        rows = [[q.table, q.rule, f"{q.rows:,}"] for q in manifest.quarantined]
        out.print(table("set aside in quarantine.parquet", ["table", "rule", "rows"], rows))
    parameters = flatten(manifest.source.options)
    if 0 < len(parameters) <= _SHOWN_PARAMETERS:
        out.print(
            table("made with", ["parameter", "value"], [list(pair) for pair in parameters.items()])
        )
    out.print(f"fingerprint {made.fingerprint}", highlight=False)
    out.print(f"folder      {made.path}", highlight=False, soft_wrap=True)


def _counts(made: Extract) -> list[list[str]]:
    tables = [[name, f"{entry.rows:,}"] for name, entry in made.manifest.tables.items()]
    others = {
        name: n for name, n in made.manifest.counts.items() if name not in made.manifest.tables
    }
    return [*tables, *([name.replace("_", " "), f"{n:,}"] for name, n in others.items())]


def _parameters(made: Extract) -> list[str]:
    """What the counts rest on: each group of the source's options on a line."""
    groups = {
        name: value
        for name, value in made.manifest.source.options.items()
        if isinstance(value, dict)
    }
    return [
        f"{name}: {', '.join(f'{key}={value}' for key, value in group.items())}"
        for name, group in groups.items()
    ]


def _prevalence(made: Extract) -> list[list[str]]:
    return [
        [e.by, e.group, f"{e.stays:,}", f"{e.with_episode:,}", f"{e.with_episode / e.stays:.1%}"]
        for e in made.manifest.prevalence
    ]


def _reasons(made: Extract) -> list[list[str]]:
    reasons = sorted(made.manifest.exclusions, key=lambda reason: -reason[1])
    shown = [[reason, f"{rows:,}"] for reason, rows in reasons[:_SHOWN_REASONS]]
    rest = reasons[_SHOWN_REASONS:]
    more = [f"{len(rest):,} more, see manifest.json", f"{sum(rows for _, rows in rest):,}"]
    return [*shown, *([more] if rest else [])]


def failures(frame: pl.DataFrame, out: Console) -> None:
    """The first failures of a check, and how many there are of each rule."""
    shown = frame.head(_SHOWN_FAILURES)
    rows = [[("" if v is None else str(v)) for v in row] for row in shown.iter_rows()]
    out.print(table("failures", frame.columns, rows))
    counted = frame.group_by("table", "rule").len().sort("table", "rule")
    out.print(
        table(
            "in all",
            ["table", "rule", "failures"],
            [[str(v) for v in r] for r in counted.iter_rows()],
        )
    )


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A table; columns of numbers are set flush right."""
    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        numbers = all(row[i][:1] in "0123456789-+." for row in rows)
        made.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made
