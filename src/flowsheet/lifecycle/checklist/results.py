"""Answers about open science, results and limitations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from flowsheet.config import Protocol
from flowsheet.evaluation.leaderboard import render_leaderboard_markdown
from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.lifecycle.checklist.answers import register
from flowsheet.lifecycle.checklist.record import StudyRecord
from flowsheet.lifecycle.model_card.template import markdown_table


@register
def describe_configuration(record: StudyRecord) -> str:
    """Where the whole configuration is."""
    return f"All choices are recorded: `config.yaml` among the artifacts of `{record.run.run_id}`."


@register
def describe_licence(record: StudyRecord) -> str:
    """The licence of the source."""
    return f"Licence of the source: {record.manifest.source.licence}."


@register
def describe_code(record: StudyRecord) -> str:
    """Versions of the code."""
    facts = ", ".join(f"{name} {value}" for name, value in record.run.code.items())
    run_id = record.run.run_id[:8]
    return (
        f"Flowsheet: {facts}. `flowsheet rerun {run_id}` repeats the run and compares its metrics."
    )


@register
def describe_flow(record: StudyRecord) -> str:
    """The flow of participants and what is left out."""
    study = record.study
    flow = [[step.step, f"{step.stays:,}"] for step in study.flow]
    text = markdown_table(["step", "stays left"], flow)
    if not study.left_out:
        return text
    rows = [[entry.reason, f"{entry.rows:,}", f"{entry.stays:,}"] for entry in study.left_out]
    head = [f"of {study.rows:,} time steps, not evaluated because", "time steps", "stays"]
    return f"{text}\n\n{markdown_table(head, rows)}"


@register
def describe_characteristics(record: StudyRecord) -> str:
    """The table of characteristics."""
    table = record.study.characteristics
    rows = [[row.label, *row.cells] for row in table.rows]
    return markdown_table(["", *table.columns], rows) if rows else ""


@register
def describe_counts(record: StudyRecord) -> str:
    """Rows, events and subjects of each subset that was evaluated."""
    counts = record.evidence.leaderboard.filter(~pl.col("subset").str.contains(": "))
    first = counts.unique("subset", keep="first", maintain_order=True)
    rows = [
        [row["subset"].replace("_", " "), *(f"{row[c]:,}" for c in ("rows", "events", "subjects"))]
        for row in first.iter_rows(named=True)
    ]
    return markdown_table(["evaluated", "rows", "events", "subjects"], rows)


@register
def describe_specification(record: StudyRecord) -> str:
    """Where the whole models are."""
    return (
        "Each model is a package in the model registry: weights, scaling, task, features, "
        "threshold and digests. Coefficients and importances are tables of its run; the model "
        "card of each version (`flowsheet card`) lists its inputs and parameters."
    )


@register
def describe_performance(record: StudyRecord) -> str:
    """The leaderboards with intervals."""
    return render_leaderboard_markdown(record.evidence).strip()


@register
def describe_subgroups(record: StudyRecord) -> str:
    """The ranking metric of every model in every group."""
    return _tabulate_groups(record, lambda grouping: grouping != "site")


@register
def describe_performance_by_site(record: StudyRecord) -> str:
    """The ranking metric of every model in every site."""
    table = _tabulate_groups(record, lambda grouping: grouping == "site")
    return table or "Not estimated: the records are of one site, or do not name it."


@register
def describe_comparison(record: StudyRecord) -> str:
    """Whether bedside scores were compared."""
    return record.study.comparison


@register
def describe_limitations(record: StudyRecord) -> str:
    """What the record itself shows to be a limitation."""
    size = record.study.sample_size
    sentences = [
        record.study.overlap_summary,
        size.summary if size and size.is_small else "",
        "" if record.study.bedside_scores else record.study.comparison,
        "" if record.evaluation.protocol is Protocol.site else "No other site was predicted.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _tabulate_groups(record: StudyRecord, is_selected: Callable[[str], bool]) -> str:
    metric = get_metric(record.evidence.about["metric"])
    evidence = record.evidence.with_titles()
    models = evidence.models
    frame = evidence.leaderboard.filter(
        pl.col("subset").str.contains(": "), pl.col("metric") == metric.name
    )
    rows = []
    for (subset,), group in frame.group_by("subset", maintain_order=True):
        if not is_selected(str(subset).split(": ")[0]):
            continue
        by_model = {row["model"]: row for row in group.iter_rows(named=True)}
        first = group.row(0, named=True)
        cells = [_format_cell(by_model.get(model), metric) for model in models]
        rows.append([subset, f"{first['rows']:,}", f"{first['events']:,}", *cells])
    head = [f"{metric.label}, all rows", "rows", "events", *models]
    return markdown_table(head, rows) if rows else ""


def _format_cell(row: dict[str, Any] | None, metric: Metric) -> str:
    if row is None:
        return ""
    return format_estimate(row["value"], row["low"], row["high"], metric.decimals)
