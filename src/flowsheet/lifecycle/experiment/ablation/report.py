"""What the models read, as a section of the experiment's report and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from flowsheet import charts
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.leaderboard import LeaderboardTable, describe_intervals
from flowsheet.evaluation.metrics import Metric, get_metric
from flowsheet.evaluation.report import Section
from flowsheet.evaluation.report.tables import Cell, css_class, make_cell
from flowsheet.evaluation.report.templates import make_environment
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.subsets import BEFORE_TREATMENT
from flowsheet.evaluation.summaries import format_estimate
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import AblatedModel, AblationResults

TITLE = "What the models read"
ALL_INPUTS = "all inputs"
_METRICS = ("auroc", "auprc", "normalised_utility")
"""Shown after the metric that ranks the models."""


class _Line(NamedTuple):
    """A model with some inputs."""

    name: str
    whole: str
    inputs: str


@dataclass(frozen=True)
class AblationTable:
    """The metrics of each model by its inputs; the first line of each model is the whole one."""

    evidence: Evidence
    models: tuple[AblatedModel, ...]

    @classmethod
    def load(cls, results: AblationResults) -> AblationTable:
        """The table of a completed ablation."""
        return cls(load_evidence(results.evidence), results.plan.models)

    @property
    def metrics(self) -> list[Metric]:
        """The columns, on the rows that rank the models."""
        rows = self.evidence.leaderboard.filter(subset=self.evidence.ranking_subset)
        names = dict.fromkeys([self.evidence.about["metric"], *_METRICS])
        return [get_metric(name) for name in names if name in set(rows["metric"])]

    @property
    def ranking_metric(self) -> Metric:
        """The metric that ranks the models."""
        return get_metric(self.evidence.about["metric"])

    def list_lines(self) -> Iterator[_Line]:
        """The trained models, each whole one before what is left of it."""
        for whole in dict.fromkeys(model.model for model in self.models):
            yield _Line(whole, whole, ALL_INPUTS)
            for model in self.models:
                if model.model == whole and not model.reason_left_out:
                    yield _Line(model.name, whole, describe_inputs(model.inputs))

    def list_left_out(self) -> list[str]:
        """Sentences about the inputs that no model was trained with."""
        titles = self.evidence.titles
        return [
            f"{titles.get(model.model, model.model)}, {describe_inputs(model.inputs)}: "
            f"{model.reason_left_out}."
            for model in self.models
            if model.reason_left_out
        ]

    def find_estimate(self, name: str, metric: str, subset: str) -> dict[str, Any] | None:
        """A row of the leaderboard; None where there is none."""
        rows = self.evidence.leaderboard.filter(model=name, metric=metric, subset=subset)
        return rows.row(0, named=True) if rows.height else None

    def find_difference(self, line: _Line) -> dict[str, Any] | None:
        """The ranking metric less that of the whole model; None for the whole one."""
        both = pl.col("model_a", "model_b").is_in([line.name, line.whole])
        pairs = self.evidence.pairs.filter(
            pl.all_horizontal(both),
            metric=self.ranking_metric.name,
            subset=self.evidence.ranking_subset,
        )
        if line.name == line.whole or not pairs.height:
            return None
        row = pairs.row(0, named=True)
        ends = {"value": row["difference"], "low": row["low"], "high": row["high"]}
        if row["model_a"] == line.name:
            return ends
        return {"value": -ends["value"], "low": -ends["high"], "high": -ends["low"]}

    def to_frame(self) -> pl.DataFrame:
        """model, inputs, and the leaderboard's other columns: for the tracker."""
        lines = pl.DataFrame(
            [(line.name, line.whole, line.inputs) for line in self.list_lines()],
            schema={"name": pl.String, "model": pl.String, "inputs": pl.String},
            orient="row",
        )
        board = self.evidence.leaderboard.rename({"model": "name"})
        return lines.join(board, on="name", how="inner", maintain_order="left_right").drop("name")


def describe_inputs(name: str) -> str:
    """The inputs that are left, for people.

    >>> describe_inputs("without_anti_infectives")
    'without anti-infectives'
    """
    return name.replace("anti_infective", "anti-infective").replace("_", " ")


def make_terminal_table(results: AblationResults) -> LeaderboardTable:
    """The table as texts that fit a terminal."""
    table = AblationTable.load(results)
    evidence, metrics = table.evidence, table.metrics
    rows = []
    for line in table.list_lines():
        cells = [
            _format(table.find_estimate(line.name, metric.name, evidence.ranking_subset), metric)
            for metric in metrics
        ]
        difference = _format(table.find_difference(line), table.ranking_metric)
        title = evidence.titles.get(line.whole, line.whole)
        rows.append([title, line.inputs, *cells, difference])
    labels = [metric.label for metric in metrics]
    columns = ["model", "inputs", *labels, f"{table.ranking_metric.label} less all inputs"]
    subset = describe_subset(evidence.ranking_subset, evidence.words)
    return LeaderboardTable(title=f"{TITLE}{subset}", columns=columns, rows=rows)


def _format(estimate: dict[str, Any] | None, metric: Metric) -> str:
    if estimate is None:
        return ""
    return format_estimate(estimate["value"], estimate["low"], estimate["high"], metric.decimals)


class _Row(NamedTuple):
    css: str
    model: str
    inputs: str
    cells: list[Cell]


def make_section(results: AblationResults, models: Sequence[str]) -> Section:
    """The section of the experiment's report.

    Args:
        results: a completed ablation.
        models: the report's models in their order: a model has one colour on the page.
    """
    table = AblationTable.load(results)
    evidence, metric = table.evidence, table.ranking_metric
    has_treatment = BEFORE_TREATMENT in evidence.about["subsets"]
    labels = [m.label for m in table.metrics]
    labels.append(f"{metric.label} less all inputs")
    if has_treatment:
        labels.append(f"{metric.label} before the first anti-infective")
    ranks = {model: rank for rank, model in enumerate(models)}
    rows = []
    for line in table.list_lines():
        subset = evidence.ranking_subset
        cells = [
            make_cell(table.find_estimate(line.name, m.name, subset), m.decimals)
            for m in table.metrics
        ]
        cells.append(make_cell(table.find_difference(line), metric.decimals))
        if has_treatment:
            treated = table.find_estimate(line.name, metric.name, BEFORE_TREATMENT)
            cells.append(make_cell(treated, metric.decimals))
        title = evidence.titles.get(line.whole, line.whole)
        rows.append(_Row(css_class(ranks[line.whole]), title, line.inputs, cells))
    template = make_environment(Path(__file__).parent).get_template("section.html")
    html = template.render(
        title=TITLE,
        label=metric.label + describe_subset(evidence.ranking_subset, evidence.words),
        labels=labels,
        rows=rows,
        chart=_draw(table, models),
        left_out=table.list_left_out(),
        intervals=describe_intervals(evidence),
        has_treatment=has_treatment,
    )
    return Section("ablation", TITLE, Markup(html))


def _draw(table: AblationTable, models: Sequence[str]) -> Any:
    """The ranking metric by inputs, a dot and an interval for each model."""
    evidence, titles = table.evidence, table.evidence.titles
    rows = []
    for line in table.list_lines():
        found = table.find_estimate(line.name, table.ranking_metric.name, evidence.ranking_subset)
        estimate = found or {"value": None, "low": None, "high": None, "rows": None}
        rows.append(
            {
                "grouping": "",
                "group": line.inputs,
                "model": titles.get(line.whole, line.whole),
                "value": estimate["value"],
                "low": estimate["low"],
                "high": estimate["high"],
                "count": estimate["rows"],
            }
        )
    ordered = [titles.get(model, model) for model in models]
    return charts.subgroups(pl.DataFrame(rows), ordered, table.ranking_metric.label)
