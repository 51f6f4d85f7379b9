"""Figures of evaluations and stays: Vega-Altair charts, the same as in the reports.

A chart shows itself in a notebook; ``chart.save("roc.html")`` writes it to a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from flowsheet import charts
from flowsheet.charts import Chart
from flowsheet.cohort import catalogue
from flowsheet.errors import UsageError, did_you_mean
from flowsheet.evaluation.metrics import get_metric

if TYPE_CHECKING:
    from flowsheet.api._evaluation import Evaluation
    from flowsheet.api._extract import Stay
    from flowsheet.api._model import Predictor

EVALUATION_FIGURES = (
    *("roc", "precision_recall", "calibration", "decision_curve"),
    *("leaderboard", "differences"),
)
"""The figures of an evaluation: ``evaluation.plot.roc()`` is ``fs.plot.roc(evaluation)``."""

_VITALS = ("hr", "map", "resp", "temp", "o2sat", "lact")
"""Variables that are drawn if no others are named, as far as the stay has them."""
_DAY = 86_400.0


def roc(evaluation: Evaluation, subset: str | None = None) -> Chart:
    """Receiver operating characteristic curves.

    Args:
        evaluation: of some models.
        subset: of the rows, such as ``all`` or ``new_onsets``; None: the one that ranks the models.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
        >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
        >>> evaluation = fs.evaluate({"logistic": model}, test, valid=valid, resamples=20)
        >>> chart = fs.plot.roc(evaluation)  # the same as evaluation.plot.roc()
        >>> chart.to_dict()["width"] > 0
        True
    """
    return charts.roc(_points(evaluation, "roc", subset), evaluation.models)


def precision_recall(evaluation: Evaluation, subset: str | None = None) -> Chart:
    """Precision over recall; a dashed line is the prevalence.

    Args:
        evaluation: of some models.
        subset: of the rows; None: the one that ranks the models.
    """
    points = _points(evaluation, "pr", subset)
    return charts.precision_recall(points, evaluation.models, _prevalence(evaluation, subset))


def calibration(evaluation: Evaluation, subset: str | None = None) -> Chart:
    """Observed over predicted frequency, with intervals.

    Args:
        evaluation: of some models.
        subset: of the rows; None: the one that ranks the models.
    """
    return charts.calibration(_points(evaluation, "calibration", subset), evaluation.models)


def decision_curve(evaluation: Evaluation, subset: str | None = None) -> Chart:
    """Net benefit over the threshold probability.

    Args:
        evaluation: of some models.
        subset: of the rows; None: the one that ranks the models.
    """
    points = _points(evaluation, "decision", subset)
    return charts.decision_curve(points, evaluation.models, _prevalence(evaluation, subset))


def leaderboard(evaluation: Evaluation, metric: str | None = None) -> Chart:
    """One metric of all models with its intervals.

    Args:
        evaluation: of some models.
        metric: its name; None: the one that ranks the models.
    """
    metric = metric or str(evaluation.evidence.about["metric"])
    label = get_metric(metric).label
    subset = evaluation.evidence.ranking_subset
    estimates = evaluation.metrics.filter(subset=subset, metric=metric)
    columns = estimates.select("value", "low", "high", name="model")
    return charts.forest(columns, label)


def differences(evaluation: Evaluation, metric: str | None = None) -> Chart:
    """Differences between all pairs of models with their intervals.

    Args:
        evaluation: of some models.
        metric: its name; None: the one that ranks the models.
    """
    metric = metric or str(evaluation.evidence.about["metric"])
    pairs = evaluation.pairs.filter(subset=evaluation.evidence.ranking_subset, metric=metric)
    return charts.differences(pairs, get_metric(metric).label)


def stay(
    stay: Stay,
    risk: Predictor | Mapping[str, Predictor] | None = None,
    variables: tuple[str, ...] | None = None,
) -> Chart:
    """One stay over time: measurements, doses, onset, and risks.

    Args:
        stay: of an extract.
        risk: a fitted or loaded model, or some by name.
        variables: that are drawn; None: the vital signs and lactate.

    Raises:
        UsageError: the stay has none of the variables.

    Examples:
        >>> import flowsheet as fs
        >>> ward = fs.ingest("simulated_small", stays=60)
        >>> train, valid, test = fs.split(fs.windows(ward, features="vitals_only"), seed=2)
        >>> model = fs.model("logistic_regression", l2=0.01).fit(train, valid)
        >>> chart = fs.plot.stay(ward.stay(7), risk=model, variables=("hr", "lact"))
        >>> "vconcat" in chart.to_dict()
        True
    """
    admitted: datetime = stay.tables.stays["admitted_at"][0]
    predictors = {} if risk is None else risk if isinstance(risk, Mapping) else {risk.name: risk}
    discharged = _days(pl.lit(stay.tables.stays["discharged_at"][0]), admitted)
    onset: Any = stay.episodes.select(_days(pl.col("onset"), admitted).min()).item()
    return charts.stay_timeline(
        _risks(stay, predictors, admitted),
        _measurements(stay, variables, admitted),
        _doses(stay, admitted),
        models=list(predictors),
        onset=onset,
        end=pl.select(discharged).item(),
        unit="days",
    )


def _points(evaluation: Evaluation, curve: str, subset: str | None) -> pl.DataFrame:
    """The points of a curve of all models.

    Raises:
        UsageError: there is no such subset, or it has no such curve.
    """
    subset = subset or evaluation.evidence.ranking_subset
    points = evaluation.curves.filter(curve=curve, subset=subset)
    if points.is_empty():
        known = evaluation.curves.filter(curve=curve)["subset"].unique().to_list()
        raise UsageError(
            f"the subset {subset!r} has no curve {curve!r}", todo=did_you_mean(subset, known)
        )
    return points


def _prevalence(evaluation: Evaluation, subset: str | None) -> float:
    rows = evaluation.metrics.filter(subset=subset or evaluation.evidence.ranking_subset)
    return float(rows["events"][0] / rows["rows"][0])


def _days(time: pl.Expr, admitted: datetime) -> pl.Expr:
    return (time - pl.lit(admitted)).dt.total_seconds() / _DAY


def _risks(stay: Stay, predictors: Mapping[str, Predictor], admitted: datetime) -> pl.DataFrame:
    schema = {
        "time": pl.Float64(),
        "model": pl.String(),
        "risk": pl.Float64(),
        "threshold": pl.Float64(),
        "is_alert": pl.Boolean(),
    }
    parts = [pl.DataFrame(schema=schema)]
    for name, predictor in predictors.items():
        threshold = predictor.package.threshold
        predictions = predictor.predict(stay)
        raised = predictor.package.raise_alerts(predictions)
        alert = pl.lit(None, pl.Boolean) if raised is None else pl.Series(raised, dtype=pl.Boolean)
        parts.append(
            predictions.select(
                time=_days(pl.col("time"), admitted),
                model=pl.lit(name),
                risk="risk",
                threshold=pl.lit(threshold, pl.Float64),
                is_alert=alert.fill_null(value=False),
            )
        )
    return pl.concat(parts)


def _measurements(
    stay: Stay, variables: tuple[str, ...] | None, admitted: datetime
) -> pl.DataFrame:
    measured = stay.events["variable"].unique().to_list()
    chosen = [name for name in variables or _VITALS if name in measured]
    if variables is None and not chosen:
        chosen = sorted(measured)[: len(_VITALS)]
    if not chosen and variables:
        what = f"stay {stay.stay_id} has no measurement of {', '.join(variables)}"
        raise UsageError(what, todo=f"it has {', '.join(sorted(measured))}")
    labels = {name: _label(name) for name in chosen}
    return (
        stay.events.filter(pl.col("variable").is_in(chosen))
        .sort("variable", "time")
        .select(
            time=_days(pl.col("time"), admitted),
            variable=pl.col("variable").replace_strict(labels, return_dtype=pl.String),
            value="value",
        )
    )


def _label(name: str) -> str:
    variable = catalogue.variable(name)
    return f"{variable.label}, {variable.unit}"


def _doses(stay: Stay, admitted: datetime) -> pl.DataFrame:
    amount = pl.col("dose").fill_null(0.0)
    text = pl.concat_str(pl.col("dose").cast(pl.String).fill_null("?"), pl.lit(" "), "unit")
    return stay.treatments.sort("drug", "start").select(
        start=_days(pl.col("start"), admitted),
        end=_days(pl.col("end"), admitted),
        drug="drug",
        amount=amount,
        text=text,
    )
