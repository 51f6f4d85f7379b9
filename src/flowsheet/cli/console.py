"""What commands print: results on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table

from flowsheet.cohort.extract import AgreementEntry, Extract, Manifest
from flowsheet.errors import mask_secrets
from flowsheet.evaluation.leaderboard import LeaderboardTable, list_leaderboard_tables
from flowsheet.tracking.run_metadata import flatten

if TYPE_CHECKING:
    from flowsheet.lifecycle.deployment.batch_scoring import ScoringResult
    from flowsheet.lifecycle.deployment.compare_models import ModelComparison
    from flowsheet.lifecycle.deployment.external_evaluation import ExternalEvaluation
    from flowsheet.lifecycle.deployment.monitoring import MonitoringResult
    from flowsheet.lifecycle.deployment.promotion import PromotionResult
    from flowsheet.lifecycle.erasure.erase import ErasureResult
    from flowsheet.lifecycle.experiment.record import RunSummary
    from flowsheet.lifecycle.experiment.rerun import RerunResult, ValueDiff
    from flowsheet.tracking.decisions import Decision

_MAX_FAILURES = 40
_MAX_OPTIONS = 60  # a simulated ward has hundreds; they are in its manifest
_MAX_REASONS = 20
_PIPE_WIDTH = 160


class _Console(Console):
    """A console that leaves a closed pipe to the command line, which ends without an error."""

    def on_broken_pipe(self) -> None:
        """Raise what ``print`` raises."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output; wide enough for its tables where it is not a terminal."""
    return _Console() if sys.stdout.isatty() else _Console(width=_PIPE_WIDTH)


def make_table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A table; columns of numbers are aligned to the right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        is_number = all(row[i][:1] in "0123456789-+." for row in rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def print_line(line: str) -> None:
    """Print a line that is not wrapped, so that paths in it can be copied."""
    console().print(line, highlight=False, markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a value as JSON; numbers that JSON does not have become null."""
    text = json.dumps(_without_non_finite(value), indent=1, default=str)
    print(mask_secrets(text), flush=True)


def _without_non_finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_run_summary(summary: RunSummary) -> None:
    """Print an experiment's leaderboard, what was reused, and where its records are."""
    for board in summary.leaderboards:
        title = f"{summary.experiment}, held-out subjects. {board.title}"
        print_leaderboard(title, board.with_titles(summary.titles))
    _print_text(summary.headline)
    for name, reason in summary.excluded_models.items():
        _print_text(f"{summary.titles.get(name, name)} was left out: {reason}")
    if summary.reused:
        _print_text(f"reused: {', '.join(summary.reused)}")
    print_line(f"run {summary.run_id}")
    for line in (*summary.describe_trials(), *summary.registered):
        print_line(line)
    print_line(f"report {summary.report}")
    for name, address in summary.pages.items():
        print_line(f"{name} {address}")
    _print_text("these pages need: flowsheet ui")


def print_leaderboard(title: str, board: LeaderboardTable) -> None:
    """Print a leaderboard as wide as the terminal allows.

    Intervals are left out first, but for the metric that ranks the models, and then the last
    columns: the report has them all.
    """
    width = console().width
    rows = board.rows
    if _table_width(board.columns, rows) > width:
        rows = [[*row[:2], *(_without_interval(cell) for cell in row[2:])] for row in rows]
    n_shown = len(board.columns)
    while n_shown > 2 and _table_width(board.columns[:n_shown], rows) > width:
        n_shown -= 1
    shown = [row[:n_shown] for row in rows]
    table = make_table(title, board.columns[:n_shown], shown)
    widths = _least_widths(board.columns[:n_shown], shown)
    for column, least in zip(table.columns, widths, strict=True):
        spare = width - _table_width(board.columns[:n_shown], shown)
        column.width = min(max(least, len(str(column.header))), least + max(0, spare))
        width -= column.width - least
    console().print(table)
    if omitted := board.columns[n_shown:]:
        _print_text(f"in the report: {', '.join(omitted)}")


def _without_interval(cell: str) -> str:
    return cell.partition(" [")[0]


def _table_width(columns: list[str], rows: list[list[str]]) -> int:
    """Columns that a table needs so that no cell and no word of its head is broken."""
    return sum(_least_widths(columns, rows)) + 3 * len(columns) + 1


def _least_widths(columns: list[str], rows: list[list[str]]) -> list[int]:
    words = [max(map(len, column.split())) for column in columns]
    cells = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return list(map(max, words, cells))


def comparison_as_json(comparison: ModelComparison) -> dict[str, object]:
    """A comparison as plain data: metrics of each model, and each pair's differences."""
    evidence = comparison.evidence
    return {
        "run_id": comparison.run_id,
        "report": str(comparison.report),
        "rows": comparison.rows,
        "headline": evidence.headline,
        "metrics": {model: evidence.metrics(model) for model in evidence.models},
        "differences": evidence.pairs.rows(named=True),
    }


def print_comparison(comparison: ModelComparison) -> None:
    """Print the leaderboards of compared models, the headline and each pair's difference."""
    evidence = comparison.evidence
    for board in list_leaderboard_tables(evidence):
        print_leaderboard(f"held-out subjects. {board.title}", board.with_titles(evidence.titles))
    _print_text(evidence.headline)
    rank = {name: i for i, name in enumerate(evidence.models)}
    pairs = evidence.pairs.filter(metric=evidence.about["metric"], subset=evidence.ranking_subset)
    for pair in pairs.iter_rows(named=True):
        if rank[pair["model_a"]] < rank[pair["model_b"]]:  # each pair once, the better one first
            _print_text(pair["summary"])
    _print_text(f"compared on {comparison.rows}")
    print_line(f"run {comparison.run_id}")
    print_line(f"report {comparison.report}")


def print_rerun(result: RerunResult, *, show_all: bool) -> None:
    """Print what changed since the old run, and the metrics that differ, or all of them."""
    if result.changes:
        rows = [
            [change.name, _shorten(change.old), _shorten(change.new)] for change in result.changes
        ]
        _print_table("what changed since", ["", "old", "new"], rows)
    rows = [
        [metric.name, _shorten(metric.old), _shorten(metric.new), _describe_diff(metric)]
        for metric in result.metrics
        if show_all or not metric.is_equal
    ]
    if rows:
        _print_table("metrics on the held-out subjects", ["", "old", "new", ""], rows)
    equal = sum(metric.is_equal for metric in result.metrics)
    _print_text(
        f"{equal} of {len(result.metrics)} metrics, bounds of intervals included, are equal to the "
        "last bit"
    )
    print_line(f"run {result.new_run}")


def print_promotion(result: PromotionResult) -> None:
    """Print the gates and the decision."""
    decision = result.decision
    version = f"{decision.name}/{decision.version}"
    rows = [
        [gate.name, "passed" if gate.passed else "failed", gate.summary] for gate in result.gates
    ]
    _print_table(version, ["gate", "", "measured"], rows)
    previous = ""
    if decision.previous_version and result.promoted:
        previous = f", in place of version {decision.previous_version}"
    _print_text(f"{version} of run {result.run_id} was {decision.action}{previous}")
    _print_text(f"decision {decision.number} by {decision.actor}: {decision.reason}")


def print_rollback(decision: Decision) -> None:
    """Print which version is the champion again."""
    _print_text(
        f"{decision.name}/{decision.version} is the champion again, in place of version "
        f"{decision.previous_version}"
    )


def print_evaluation(evaluation: ExternalEvaluation) -> None:
    """Print what differs from home, then the leaderboard and the figures at home."""
    several = len(evaluation.comparisons) > 1
    evidence = evaluation.evidence
    for model, comparison in evaluation.comparisons.items():
        name = f"{evidence.titles[model]}: " if several else ""
        for difference in comparison.differences:
            _print_text(f"- {name}{difference.summary}")
    for board in list_leaderboard_tables(evidence):
        print_leaderboard(f"evaluated. {board.title}", board.with_titles(evidence.titles))
    for model, summary in evaluation.summaries.items():
        _print_text(f"{evidence.titles[model]}: {summary}")
    if several:
        _print_text(evidence.headline)
    for run_id in evaluation.run_ids.values():
        print_line(f"run {run_id}")
    print_line(f"report {evaluation.report}")


def print_scores(scores: ScoringResult) -> None:
    """Print how much was scored and where the scores are."""
    seconds = scores.stage.seconds
    how = "scored before" if scores.stage.reused else f"scored in {seconds:.1f} s"
    version = f"{scores.model}/{scores.version}"
    print_line(f"{scores.stays:,} stays, {scores.steps:,} steps by {version}, {how}: {scores.file}")


def print_monitoring(result: MonitoringResult) -> None:
    """Print what is flagged and where the report is."""
    _print_text(f"{result.model}/{result.version} on {result.stays:,} stays: {result.headline}")
    _print_text(result.calibration)
    _print_text(
        f"{len(result.flags)} of {result.tests} tested properties are flagged (chance of any false "
        f"flag: at most {result.alpha:.2g})"
    )
    for flag in result.flags:
        _print_text(f"- {flag.summary}")
    print_line(f"run {result.run_id}")
    print_line(f"report {result.report}")


def print_erasure(result: ErasureResult) -> None:
    """Print the places of an erasure, the models that used the subjects, and the proof."""
    places = [
        [place.name, f"{place.rows:,}" if place.rows else "", place.treatment]
        for place in result.places
    ]
    _print_table("places with their records", ["place", "rows", ""], places)
    models = [
        [model.name, "trained on them" if model.in_training else "evaluated on them"]
        for model in result.models
    ]
    if models:
        _print_table("runs and registered models", ["", ""], models)
    subjects = f"{result.subjects} subject{'s' * (result.subjects != 1)}"
    if result.decision is None:
        _print_text(f"nothing was changed: without --dry-run, {subjects} would be erased")
        return
    _print_text(f"erased {subjects}; decision {result.decision.number} is the proof")
    for subject_digest in result.digests:
        print_line(f"digest {subject_digest}")
    if any(model.in_training for model in result.models):
        _print_text("models keep what they learned: train them again where that matters")


def print_extract(extract: Extract) -> None:
    """Print what an extract holds, what was excluded from it, and where it is."""
    manifest = extract.manifest
    _print_table(f"cohort extract from {manifest.source.name}", ["", "rows"], _row_counts(manifest))
    if manifest.attrition:
        rows = [[step, f"{stays:,}"] for step, stays in manifest.attrition]
        _print_table("attrition", ["step", "stays left"], rows)
    if manifest.exclusions:
        rows = _exclusions(manifest)
        _print_table("excluded by the source's rules", ["reason", "raw rows"], rows)
    if manifest.source_counts:
        rows = [[name, f"{count:,}"] for name, count in manifest.source_counts]
        _print_table("counted while reading", ["", "count"], rows)
        for line in _option_groups(manifest):
            _print_text(line)
    if len(manifest.prevalence) > 1 and manifest.counts.get("stays_with_episode"):
        columns = ["response", "by", "group", "stays", "with", "share"]
        _print_table("stays with an episode", columns, _prevalence(manifest))
    if manifest.definition_agreement:
        columns = ["definition", "other", "stays", "with", "other", "both", "kappa", "hours later"]
        rows = [_format_agreement(entry) for entry in manifest.definition_agreement]
        _print_table("stays with an episode by other definitions", columns, rows)
    if manifest.quarantined:
        rows = [[entry.table, entry.rule, f"{entry.rows:,}"] for entry in manifest.quarantined]
        _print_table("rows in quarantine.parquet", ["table", "rule", "rows"], rows)
    options = flatten(manifest.source.options)
    if 0 < len(options) <= _MAX_OPTIONS:
        rows = [[name, value] for name, value in options.items()]
        _print_table("options of the source", ["option", "value"], rows)
    for name, choice in manifest.source.choices.items():
        _print_text(f"{name}: {choice}")
    for warning in manifest.warnings:
        _print_text(f"warning: {warning}")
    print_line(f"fingerprint {extract.fingerprint}")
    print_line(f"folder      {extract.path}")


def _format_agreement(entry: AgreementEntry) -> list[str]:
    kappa, later = entry.kappa, entry.median_hours_later
    return [
        *(entry.definition, entry.other, f"{entry.stays:,}", f"{entry.stays_with_definition:,}"),
        *(f"{entry.stays_with_other:,}", f"{entry.stays_with_both:,}"),
        "" if kappa is None else f"{kappa:.2f}",
        "" if later is None else f"{later:+.1f}",
    ]


def print_failures(failures: pl.DataFrame) -> None:
    """Print the first failures of a check, and how many there are of each rule."""
    rows = [
        ["" if value is None else str(value) for value in row]
        for row in failures.head(_MAX_FAILURES).iter_rows()
    ]
    _print_table("failures", failures.columns, rows)
    counts = failures.group_by("table", "rule").len().sort("table", "rule")
    rows = [[table, rule, str(count)] for table, rule, count in counts.iter_rows()]
    _print_table("all failures by rule", ["table", "rule", "failures"], rows)


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    console().print(make_table(title, columns, rows))


def _print_text(text: str) -> None:
    console().print(text, highlight=False, markup=False)


def _shorten(value: str | float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else value[:16]


def _describe_diff(metric: ValueDiff) -> str:
    if metric.is_equal:
        return "equal"
    if isinstance(metric.old, float) and isinstance(metric.new, float):
        return f"differs by {metric.new - metric.old:+.3g}"
    return "differs"


def _row_counts(manifest: Manifest) -> list[list[str]]:
    tables = [[name, f"{entry.rows:,}"] for name, entry in manifest.tables.items()]
    others = [
        [name.replace("_", " "), f"{count:,}"]
        for name, count in manifest.counts.items()
        if name not in manifest.tables
    ]
    return tables + others


def _option_groups(manifest: Manifest) -> list[str]:
    """The options that the counts depend on: each group of the source's options on one line."""
    lines = []
    for name, group in manifest.source.options.items():
        if isinstance(group, dict):
            lines.append(f"{name}: {', '.join(f'{key}={value}' for key, value in group.items())}")
    return lines


def _prevalence(manifest: Manifest) -> list[list[str]]:
    return [
        [
            entry.response,
            entry.by,
            entry.group,
            f"{entry.stays:,}",
            f"{entry.with_episode:,}",
            f"{entry.with_episode / entry.stays:.1%}",
        ]
        for entry in manifest.prevalence
    ]


def _exclusions(manifest: Manifest) -> list[list[str]]:
    """The most frequent reasons, and one row for all others."""
    reasons = sorted(manifest.exclusions, key=lambda reason: -reason[1])
    shown = [[reason, f"{rows:,}"] for reason, rows in reasons[:_MAX_REASONS]]
    others = reasons[_MAX_REASONS:]
    if others:
        total = sum(rows for _, rows in others)
        shown.append([f"{len(others):,} more, see manifest.json", f"{total:,}"])
    return shown
