"""Three held-out stays for the report: one found early, one missed, one with a false alert.

They are chosen by rule: of the stays of each kind, the one whose length is nearest to the upper
quartile of their lengths; of several, the one with the smallest id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from flowsheet import charts
from flowsheet.cohort import catalogue
from flowsheet.cohort.schema import Tables
from flowsheet.config import TaskConfig
from flowsheet.evaluation.report import PatientReport
from flowsheet.evaluation.report.bedside import TimeUnit, time_unit
from flowsheet.lifecycle.experiment.evaluate import load_evidence
from flowsheet.lifecycle.experiment.folds import ExperimentResults
from flowsheet.lifecycle.experiment.predictions import Predictions
from flowsheet.lifecycle.experiment.prepare import open_extract
from flowsheet.prediction.explanations import explain_rise
from flowsheet.prediction.model_package import ModelPackage

MAX_MODELS = 2
"""Models whose risks are drawn, the first ones of the leaderboard."""
MAX_REASONS = 4
MAX_VARIABLES = 7
MAX_DRUGS = 8
MIN_ROWS = 3
"""Stays with fewer predictions have no course."""
VARIABLES = (
    *("hr", "map", "sbp", "resp", "temp", "o2sat", "gcs"),
    *("lact", "wbc", "crea", "plt", "bili", "bun"),
)
"""Vital signs and laboratory values, in the order in which they are preferred."""
_SHOWN_VARIABLES = ("hr", "map", "resp", "temp", "lact", "wbc", "crea")
_UPPER_QUARTILE = 0.75

FOUND, MISSED, FALSE_ALERT = "Found early", "Missed", "False alert"


@dataclass(frozen=True)
class ChosenStay:
    """A stay and what happened in it, in steps."""

    kind: str
    stay_id: int
    alert_step: int | None
    """Of the first alert."""
    risk_step: int
    """The step that is explained: of the first alert, or of the highest risk."""


def describe_patients(results: ExperimentResults) -> Iterator[PatientReport]:
    """The three stays, as far as there are stays of each kind."""
    evidence = load_evidence(results.evidence)
    predictions = Predictions.load(results.evidence.folder)
    models = [model for model in evidence.models if model in results.models][:MAX_MODELS]
    fold = results.plan.first_fold
    thresholds = predictions.folds[0].thresholds
    rows = predictions.fold_rows(predictions.folds[0])
    chosen = choose_stays(rows, models[0], thresholds[models[0]])
    stays = [stay.stay_id for stay in chosen]
    tables = open_extract(fold.data.extract).tables(stays)
    packages = {
        model: ModelPackage.load(results.trained[fold.name][model].folder / "model_package")
        for model in models
    }
    for stay in chosen:
        drawing = _StayDrawing(stay, _select_stays(tables, [stay.stay_id]), results.config.task)
        yield PatientReport(
            title=f"{stay.kind} by {evidence.titles[models[0]]}",
            description=drawing.describe(),
            chart=drawing.draw(packages, thresholds, evidence.titles),
            reasons=tuple(
                _list_reasons(packages[models[0]], drawing.tables, stay, results.config.task)
            ),
        )


def choose_stays(rows: pl.DataFrame, model: str, threshold: float) -> list[ChosenStay]:
    """A stay of each kind, by the alerts of ``model`` before the stay is in the state.

    Args:
        rows: held-out rows of one fold; columns as in ``predictions``.
        model: name.
        threshold: its decision threshold.
    """
    is_before = pl.col("in_state").cast(pl.Int64).cum_sum().over("stay_id") == 0
    ordered = rows.sort("stay_id", "step").filter(is_before, pl.col("scored"))
    risk = pl.col(f"p.{model}")
    is_alert = risk >= threshold
    is_event = pl.col("y") == 1
    stays = ordered.group_by("stay_id", maintain_order=True).agg(
        rows=pl.len(),
        alert=pl.col("step").filter(is_alert).first(),
        event=pl.col("step").filter(is_event).first(),
        highest=pl.col("step").get(risk.arg_max()),
    )
    stays = stays.filter(pl.col("rows") >= MIN_ROWS)
    has_event, has_alert = pl.col("event").is_not_null(), pl.col("alert").is_not_null()
    conditions = {
        FOUND: has_event & has_alert & (pl.col("alert") <= pl.col("event")),
        MISSED: has_event & ~has_alert,
        FALSE_ALERT: ~has_event & has_alert,
    }
    chosen = []
    for kind, condition in conditions.items():
        candidates = stays.filter(condition)
        if candidates.is_empty():
            continue
        length = candidates["rows"].quantile(_UPPER_QUARTILE)
        distance = (pl.col("rows") - length).abs()
        row = candidates.sort(distance, "stay_id").row(0, named=True)
        step = row["alert"] if row["alert"] is not None else row["highest"]
        chosen.append(ChosenStay(kind, row["stay_id"], row["alert"], step))
    return chosen


def _select_stays(tables: Tables, stays: Sequence[int]) -> Tables:
    is_chosen = pl.col("stay_id").is_in(list(stays))
    return Tables(
        stays=tables.stays.filter(is_chosen),
        events=tables.events.filter(is_chosen),
        treatments=tables.treatments.filter(is_chosen),
        episodes=tables.episodes.filter(is_chosen),
    )


class _StayDrawing:
    """One stay with its times in units since admission."""

    def __init__(self, stay: ChosenStay, tables: Tables, task: TaskConfig) -> None:
        self.stay, self.tables, self.task = stay, tables, task
        self.unit: TimeUnit = time_unit(task)
        row = tables.stays.row(0, named=True)
        self.admitted = row["admitted_at"]
        self.end = self._to_units(row["discharged_at"])
        episodes = tables.episodes.filter(pl.col("response") == task.response)
        onsets = episodes.filter(pl.col("onset") >= self.admitted)["onset"].sort()
        self.onset = self._to_units(onsets[0]) if len(onsets) else None

    def describe(self) -> str:
        """What happened, in a sentence."""
        length = self.unit.describe(self.end * self.unit.hours)
        parts = [f"Stay {self.stay.stay_id}, {length} long."]
        if self.onset is not None:
            onset = self.unit.describe(self.onset * self.unit.hours)
            parts.append(f"The onset is recorded {onset} after admission.")
        if self.stay.alert_step is None:
            parts.append("There was no alert before it.")
        else:
            alert = self.unit.describe(self.stay.alert_step * self.task.step_hours)
            parts.append(f"The first alert is raised {alert} after admission.")
        return " ".join(parts)

    def draw(
        self,
        packages: dict[str, ModelPackage],
        thresholds: dict[str, float],
        titles: dict[str, str],
    ) -> charts.Chart:
        """Risks, measurements and doses over time; the three arguments are by model."""
        parts = []
        for model, package in packages.items():
            predictions = package.predict(self.tables)
            risks = predictions.select(
                self._since("time"),
                "risk",
                model=pl.lit(titles[model]),
                threshold=thresholds[model],
                is_alert=pl.Series(package.raise_alerts(predictions), dtype=pl.Boolean),
            )
            parts.append(risks)
        return charts.stay_timeline(
            pl.concat(parts),
            self._tabulate_measurements(),
            self._tabulate_doses(),
            models=[titles[model] for model in packages],
            onset=self.onset,
            end=self.end,
            unit=self.unit.plural,
        )

    def _tabulate_measurements(self) -> pl.DataFrame:
        """time, variable with its unit, value: of the preferred variables that were measured."""
        counts = dict(self.tables.events.group_by("variable").len().iter_rows())
        preferred = dict.fromkeys([*_SHOWN_VARIABLES, *VARIABLES])
        measured = [name for name in preferred if counts.get(name, 0) > 1][:MAX_VARIABLES]
        shown = [name for name in VARIABLES if name in measured]
        parts = [
            self.tables.events.filter(variable=name)
            .sort("time")
            .select(self._since("time"), "value", variable=pl.lit(_label(name)))
            for name in shown
        ]
        schema = {"time": pl.Float64, "value": pl.Float64, "variable": pl.String}
        return pl.concat([pl.DataFrame(schema=schema), *parts])

    def _tabulate_doses(self) -> pl.DataFrame:
        """start, end, drug, amount and text: of the drugs with the most doses."""
        doses = self.tables.treatments
        counts = doses.group_by("drug").len().sort("len", "drug", descending=[True, False])
        shown = doses.filter(pl.col("drug").is_in(counts["drug"].head(MAX_DRUGS).to_list()))
        largest = pl.col("dose").max().over("drug")
        names = {name: catalogue.drug(name).label for name in shown["drug"].unique()}
        return shown.sort("start", "drug").select(
            self._since("start"),
            self._since("end"),
            drug=pl.col("drug").replace(names),
            amount=(pl.col("dose") / largest).fill_nan(None).fill_null(0.5),
            text=pl.format(
                "{} {}", pl.col("dose").cast(pl.String).fill_null("?"), pl.col("unit").fill_null("")
            ),
        )

    def _since(self, column: str) -> pl.Expr:
        hours: pl.Expr = (pl.col(column) - self.admitted).dt.total_seconds(fractional=True) / 3600
        return (hours / self.unit.hours).alias(column)

    def _to_units(self, moment: object) -> float:
        frame = pl.DataFrame({"moment": [moment]}, schema={"moment": pl.Datetime("us")})
        return float(frame.select(self._since("moment")).item())


def _label(variable: str) -> str:
    entry = catalogue.variable(variable)
    return f"{entry.label}, {entry.unit}" if entry.unit else entry.label


def _list_reasons(
    package: ModelPackage, tables: Tables, stay: ChosenStay, task: TaskConfig
) -> Iterator[str]:
    """What raised the risk the most, up to the step that is explained.

    Args:
        package: the model.
        tables: of the stay.
        stay: the step that is explained.
        task: how long a step is.
    """
    name = {24.0: "day", 1.0: "hour"}.get(task.step_hours, "step")
    first = int(package.build_sequences(tables).step.min())
    step = stay.risk_step
    if step > first:
        explained = package.explain(tables, steps=[step - 1, step])
        rise = explain_rise(explained, stay.stay_id, step - 1, step)
        raised = rise.filter(pl.col("change") > 0)
        lead = f"Why the risk rose from {name} {step - 1} to {name} {step} (log odds): "
    else:
        explained = package.explain(tables, steps=[step])
        raised = explained.filter(pl.col("contribution") > 0).sort("rank")
        lead = f"What the risk at {name} {step} is made of (log odds): "
    texts = raised["text"].head(MAX_REASONS).to_list()
    if texts:
        yield f"{lead}{'; '.join(texts)}."
