"""A model card as Markdown, section by section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from flowsheet.cohort.extract import PrevalenceEntry
from flowsheet.evaluation import summaries
from flowsheet.evaluation.leaderboard import SUBSET_TITLES, describe_intervals
from flowsheet.evaluation.metrics import METRICS
from flowsheet.evaluation.report.data import describe_protocol, describe_task
from flowsheet.evaluation.subsets import ALL, STAYS
from flowsheet.lifecycle.model_card.facts import Facts
from flowsheet.lifecycle.model_card.limitations import limits
from flowsheet.models.base import MODELS
from flowsheet.timestamps import format_minute
from flowsheet.tracking.run_metadata import flatten

_SUBGROUP_METRICS = ("auroc", "auprc", "calibration_slope", "ece")
_CALIBRATION = ("calibration_slope", "calibration_intercept", "ece", "brier")


def markdown(facts: Facts) -> str:
    """The whole card."""
    sections = {
        "Intended use": _use(facts),
        "Cohort": _cohort(facts),
        "Inputs": _inputs(facts),
        "Training data": _training(facts),
        "Model": _model(facts),
        "Performance on held-out patients": _performance(facts),
        "By subgroup": _subgroups(facts),
        "Calibration": _calibration(facts),
        "Limits and caveats": "\n".join(f"- {limit}" for limit in limits(facts)),
        "Decisions": _decisions(facts),
        "Provenance": _provenance(facts),
    }
    title = f"# Model card: {facts.version.name} version {facts.version.version}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are set flush right.

    >>> print(table(["", "n"], [["stays", 12]]))
    |  | n |
    | --- | ---: |
    | stays | 12 |
    """
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines
    )


def _use(facts: Facts) -> str:
    about = MODELS.get(facts.model_package["kind"]).capabilities
    threshold = facts.evidence.about["thresholds"].get(facts.model)
    alarm = (
        f" The figures on alarms are at a probability of {threshold:.3f} or more."
        if threshold
        else ""
    )
    told = str(facts.record.config.get("description", "")).strip()
    return (
        f"{told}\n\n{describe_task(facts.task)} The model (`{facts.model_package['kind']}`, {about.family.value}) "
        f"takes {about.input_description} as its input. "
        "It answers with a probability for each step of a stay, from the stay's raw rows as far as they were in the "
        f"record by then.{alarm} It is meant for stays like those of the cohort below, and for people who know the "
        "limits below."
    ).strip()


def _cohort(facts: Facts) -> str:
    manifest = facts.manifest
    if manifest is None:
        return "The record keeps no description of the cohort beyond its fingerprint (see Training data)."
    counts = [[name.replace("_", " "), f"{n:,}"] for name, n in manifest.counts.items()]
    parts = [
        f"Source `{manifest.source.name}`, licence: {manifest.source.licence}.",
        table(["", "count"], counts),
    ]
    if manifest.attrition:
        parts.append(
            table(["attrition", "stays left"], [[step, f"{n:,}"] for step, n in manifest.attrition])
        )
    if manifest.prevalence:
        rows = [
            [_group(e), f"{e.stays:,}", f"{e.with_episode / max(e.stays, 1):.1%}"]
            for e in manifest.prevalence
        ]
        parts.append(table(["prevalence", "stays", "with an episode"], rows))
    if manifest.quarantined:
        rows = [[f"{q.table}: {q.rule}", f"{q.rows:,}"] for q in manifest.quarantined]
        parts.append(table(["set aside", "rows"], rows))
    return "\n\n".join(parts)


def _group(entry: PrevalenceEntry) -> str:
    return ALL if entry.by == ALL else f"{entry.by}: {entry.group}"


def _inputs(facts: Facts) -> str:
    features, columns = facts.features, facts.model_package["columns"]
    return (
        f"{len(facts.model_package['inputs'])} columns a step, from {len(columns['variables'])} variables "
        f"({', '.join(columns['variables']) or 'none'}) and {len(columns['drugs'])} drugs "
        f"({', '.join(columns['drugs']) or 'none'}).\n\n{table(['choice', 'value'], _choices(features.model_dump()))}"
    )


def _choices(values: dict[str, object]) -> list[list[str]]:
    return [[name, value] for name, value in flatten(values).items() if name != "name"]


def _training(facts: Facts) -> str:
    prints = [[name, f"`{value}`"] for name, value in facts.record.fingerprints.items()]
    return f"{describe_protocol(facts.evaluation)}\n\n{table(['fingerprint', 'sha256'], prints)}"


def _model(facts: Facts) -> str:
    rows = _choices(facts.model_package["params"])
    return (
        f"`{facts.model_package['kind']}`, tuned by `{facts.record.config['tuning']['name']}`.\n\n"
        + (table(["parameter", "value"], rows) if rows else "It has no parameters to choose.")
    )


def _performance(facts: Facts) -> str:
    board = facts.evidence.leaderboard.filter(model=facts.model)
    parts = []
    for subset, title in SUBSET_TITLES.items():
        shown = board.filter(subset=subset)
        if shown.height:
            first = shown.row(0, named=True)
            unit = "stays" if subset == STAYS else "rows"
            counts = f"{first['rows']:,} {unit}, {first['events']:,} events, {first['subjects']:,} patients"
            parts.append(f"**{title}** ({counts})\n\n{_figures(shown)}")
    return "\n\n".join([*parts, describe_intervals(facts.evidence)])


def _figures(board: pl.DataFrame) -> str:
    return table(
        ["metric", "value"],
        [[METRICS.get(row["metric"]).label, figure(row)] for row in board.to_dicts()],
    )


def figure(row: dict[str, float]) -> str:
    """A figure of the leaderboard with its interval."""
    metric = METRICS.get(str(row["metric"]))
    return summaries.format_estimate(row["value"], row["low"], row["high"], metric.decimals)


def _subgroups(facts: Facts) -> str:
    board = facts.evidence.leaderboard.filter(pl.col("subset").str.contains(":"), model=facts.model)
    if board.is_empty():
        return "No subgroup was told apart."
    known = [name for name in _SUBGROUP_METRICS if name in set(board["metric"])]
    rows = []
    for (subset,), group in board.group_by("subset", maintain_order=True):
        held = {row["metric"]: row for row in group.to_dicts()}
        first = group.row(0, named=True)
        cells = [figure(held[name]) if name in held else "" for name in known]
        rows.append([str(subset), f"{first['rows']:,}", f"{first['events']:,}", *cells])
    return table(["subgroup", "rows", "events", *(METRICS.get(name).label for name in known)], rows)


def _calibration(facts: Facts) -> str:
    board = facts.evidence.leaderboard.filter(
        pl.col("metric").is_in(_CALIBRATION), model=facts.model, subset=ALL
    )
    curve = facts.evidence.curves.filter(curve="calibration", subset=ALL, model=facts.model)
    bins = [
        [
            f"{row['x']:.3f}",
            summaries.format_estimate(row["y"], row["low"], row["high"], 3),
            f"{row['rows']:,}",
        ]
        for row in curve.to_dicts()
    ]
    drawn = (
        table(["mean probability", "observed", "rows"], bins)
        if bins
        else "No calibration curve is estimable."
    )
    return f"{_figures(board)}\n\n{drawn}"


def _decisions(facts: Facts) -> str:
    rows = [
        [
            f"{format_minute(d.decided_at)} UTC",
            d.action,
            f"{d.name}/{d.version}",
            d.previous_version or "",
            d.actor,
            d.reason,
        ]
        for d in facts.decisions
    ]
    return (
        table(["at", "decision", "model", "former", "actor", "reason"], rows)
        if rows
        else "None so far."
    )


def _provenance(facts: Facts) -> str:
    record, around = facts.record, facts.record.environment
    libraries = ", ".join(
        f"{name} {version}" for name, version in around.get("libraries", {}).items()
    )
    rows = [
        ["experiment", record.experiment],
        ["experiment's run", f"`{record.run_id}`"],
        ["model's run", f"`{facts.version.run_id}`"],
        ["training", f"`{facts.model_package['training_key']}`"],
        ["seed", record.config["seed"]],
        *([name, value] for name, value in record.code.items()),
        ["Python", around.get("python", "")],
        ["libraries", libraries],
    ]
    return (
        f"{table(['', ''], rows)}\n\nThe same figures again: `flowsheet rerun {record.run_id[:8]}`."
    )
