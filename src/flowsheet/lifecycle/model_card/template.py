"""Render a model card as Markdown: the values for the template ``model_card.md.j2``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flowsheet.cohort.extract import Manifest, PrevalenceEntry
from flowsheet.evaluation import summaries
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import describe_intervals, order_subsets
from flowsheet.evaluation.metrics import get_metric
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.evaluation.study import StudyFacts
from flowsheet.evaluation.subsets import ALL, STAYS
from flowsheet.lifecycle.model_card.facts import ModelFacts
from flowsheet.models.base import MODELS
from flowsheet.timestamps import format_minute
from flowsheet.tracking.evaluation_runs import EvaluationDetails
from flowsheet.tracking.run_metadata import flatten

_SUBGROUP_METRICS = ("auroc", "auprc", "calibration_slope", "ece")
_CALIBRATION_METRICS = ("calibration_slope", "calibration_intercept", "ece", "brier")

_HTML = re.compile(r"<(?=[A-Za-z/!?])")
"""What begins a tag, a comment or an address; ``<5`` is text."""
_LINK = re.compile(r"\](?=[(\[:])")
_EMPHASIS = re.compile(r"([`*~]|(?<!\w)_|_(?!\w))")
"""An underscore within a word is text."""
Rows = list[list[str]]
"""Cells of a table, row by row."""


def render_markdown(facts: ModelFacts, limitations: Sequence[str]) -> str:
    """The whole card."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(
        table=markdown_table,
        version=facts.version,
        limitations=limitations,
        **_describe_model(facts),
        **_describe_cohort(facts.manifest, facts.study, facts.task.response),
        study=facts.study,
        **_describe_performance(facts),
        evaluations=_evaluation_rows(facts),
        decisions=_decision_rows(facts),
        provenance=_provenance_rows(facts),
        run_id=facts.record.run_id,
    )


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Markdown:
    """A Markdown table with the first column aligned left and the others right.

    >>> print(markdown_table(["", "n"], [["stays", 12]]))
    |  | n |
    | --- | ---: |
    | stays | 12 |
    """
    rule = ["---"] + ["---:"] * (len(head) - 1)
    cells = [[_to_cell(cell) for cell in line] for line in (head, *rows)]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:])))


def escape_markdown(text: object) -> Markdown:
    r"""Text from data in one line, in which Markdown finds no HTML, link or image.

    >>> print(escape_markdown("<b>[unit](javascript:x)"))
    &lt;b>[unit\](javascript:x)
    """
    if isinstance(text, Markdown):
        return text
    line = _HTML.sub("&lt;", str(text).replace("&", "&amp;"))
    return Markdown(_LINK.sub(r"\\]", line))


def _to_cell(cell: object) -> str:
    """A table's cell, in which also nothing becomes code or emphasis, nor ends the cell."""
    if isinstance(cell, Markdown):
        return cell
    text = " ".join(str(cell).replace("|", "/").replace("\\", "\\\\").split())
    return escape_markdown(_EMPHASIS.sub(r"\\\1", text))


def _code(text: object) -> Markdown:
    return Markdown(f"`{text}`")


def _describe_model(facts: ModelFacts) -> dict[str, Any]:
    """Values for the sections on intended use, inputs, training data and model."""
    package = facts.package
    config = facts.record.config
    capabilities = MODELS.get(package["kind"]).capabilities
    return {
        "description": str(config.get("description", "")).strip(),
        "question": describe_task(facts.task),
        "title": facts.evidence.titles.get(facts.model, facts.model),
        "kind": package["kind"],
        "family": capabilities.family.value,
        "input_description": capabilities.input_description,
        "threshold": facts.evidence.about["thresholds"].get(facts.model),
        "inputs": package["inputs"],
        "variables": package["columns"]["variables"],
        "drugs": package["columns"]["drugs"],
        "features": _setting_rows(facts.features.model_dump()),
        "protocol": describe_protocol(facts.evaluation),
        "fingerprints": [[name, _code(v)] for name, v in facts.record.fingerprints.items()],
        "tuning": config["tuning"]["name"],
        "params": _setting_rows(package["params"]),
    }


def _evaluation_rows(facts: ModelFacts) -> Rows:
    return [
        [
            format_minute(evaluation.evaluated_at),
            _describe_judged(evaluation.details),
            f"{evaluation.details.stays:,}",
            evaluation.details.summary,
        ]
        for evaluation in facts.evaluations
    ]


def _describe_judged(details: EvaluationDetails) -> str:
    extract = f"{details.source} {details.extract[:12]}{' (home)' if details.is_home else ''}"
    if details.kind == "answers":
        return f"answers of {details.period}, outcomes of {extract}"
    return extract


def _setting_rows(settings: Mapping[str, object]) -> Rows:
    return [[name, value] for name, value in flatten(settings).items() if name != "name"]


def _describe_cohort(
    manifest: Manifest | None, study: StudyFacts | None, response: str
) -> dict[str, Any]:
    if manifest is None:
        return {"manifest": None}
    flow = [(step.step, step.stays) for step in study.flow] if study else manifest.attrition
    return {
        "manifest": manifest,
        "counts": [[name.replace("_", " "), f"{n:,}"] for name, n in manifest.counts.items()],
        "selection": [[step, f"{stays:,}"] for step, stays in flow],
        "prevalence": [_prevalence_row(entry) for entry in manifest.prevalence_of(response)],
        "quarantined": [[f"{q.table}: {q.rule}", f"{q.rows:,}"] for q in manifest.quarantined],
    }


def _prevalence_row(entry: PrevalenceEntry) -> list[str]:
    group = ALL if entry.by == ALL else f"{entry.by}: {entry.group}"
    share = entry.with_episode / max(entry.stays, 1)
    return [group, f"{entry.stays:,}", f"{share:.1%}"]


def _describe_performance(facts: ModelFacts) -> dict[str, Any]:
    leaderboard = facts.evidence.leaderboard.filter(model=facts.model)
    subgroups = leaderboard.filter(pl.col("subset").str.contains(":"))
    subgroup_metrics = [name for name in _SUBGROUP_METRICS if name in set(subgroups["metric"])]
    labels = [get_metric(name).label for name in subgroup_metrics]
    calibration = leaderboard.filter(pl.col("metric").is_in(_CALIBRATION_METRICS), subset=ALL)
    return {
        "performance": list(_subset_tables(facts.evidence, leaderboard)),
        "intervals": describe_intervals(facts.evidence),
        **_describe_alerts(facts),
        "subgroup_head": ["subgroup", "rows", "events", *labels],
        "subgroups": list(_subgroup_rows(subgroups, subgroup_metrics)),
        "calibration_metrics": _metric_rows(calibration),
        "calibration_curve": list(_calibration_rows(facts)),
    }


def _describe_alerts(facts: ModelFacts) -> dict[str, Any]:
    judged = facts.evidence.alerts.get(facts.model)
    if judged is None:
        return {"alerts": None, "alert_rows": []}
    estimates = {
        "alerts per patient-day": judged.alerts_per_day,
        "right alerts (PPV)": judged.ppv,
        "onsets found in their window": judged.onsets_found,
    }
    rows = [[label, estimate.format(3)] for label, estimate in estimates.items()]
    if judged.lead_hours is not None:
        rows.append(["median lead time, h", f"{judged.lead_hours:.1f}"])
    return {"alerts": judged, "alert_rows": rows}


def _subset_tables(evidence: Evidence, leaderboard: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for subset, title in order_subsets(evidence).items():
        rows = leaderboard.filter(subset=subset)
        if rows.height:
            first = rows.row(0, named=True)
            unit = "stays" if subset == STAYS else "rows"
            yield {
                "title": title,
                "counts": f"{first['rows']:,} {unit}, {first['events']:,} events, "
                f"{first['subjects']:,} patients",
                "metrics": _metric_rows(rows),
            }


def _metric_rows(leaderboard: pl.DataFrame) -> Rows:
    return [[get_metric(row["metric"]).label, format_value(row)] for row in leaderboard.to_dicts()]


def format_value(row: Mapping[str, Any]) -> str:
    """The value of a leaderboard row, with its interval."""
    decimals = get_metric(row["metric"]).decimals
    return summaries.format_estimate(row["value"], row["low"], row["high"], decimals)


def _subgroup_rows(subgroups: pl.DataFrame, metrics: Sequence[str]) -> Iterator[list[str]]:
    for (subset,), group in subgroups.group_by("subset", maintain_order=True):
        by_metric = {row["metric"]: row for row in group.to_dicts()}
        first = group.row(0, named=True)
        values = [format_value(by_metric[name]) if name in by_metric else "" for name in metrics]
        yield [str(subset), f"{first['rows']:,}", f"{first['events']:,}", *values]


def _calibration_rows(facts: ModelFacts) -> Iterator[list[str]]:
    curve = facts.evidence.curves.filter(curve="calibration", subset=ALL, model=facts.model)
    for row in curve.to_dicts():
        observed = summaries.format_estimate(row["y"], row["low"], row["high"], 3)
        yield [f"{row['x']:.3f}", observed, f"{row['rows']:,}"]


def _decision_rows(facts: ModelFacts) -> list[list[object]]:
    return [
        [
            f"{format_minute(decision.decided_at)} UTC",
            decision.action,
            decision.reference,
            decision.previous_version or "",
            decision.actor,
            decision.reason,
        ]
        for decision in facts.decisions
    ]


def _provenance_rows(facts: ModelFacts) -> list[list[object]]:
    record = facts.record
    environment = record.environment
    libraries = environment.get("libraries", {}).items()
    return [
        ["experiment", record.experiment],
        ["experiment's run", _code(record.run_id)],
        ["model's run", _code(facts.version.run_id)],
        ["training key", _code(facts.package["training_key"])],
        ["seed", record.config["seed"]],
        *([name, value] for name, value in record.code.items()),
        ["Python", environment.get("python", "")],
        ["libraries", ", ".join(f"{name} {version}" for name, version in libraries)],
    ]
