"""Evaluate registered versions on another extract, whose outcomes are known, beside their home.

The extract may be another hospital's, or today's records of the home. Subjects on whom a model was
developed are left out; so on the home extract the figures are those of the experiment itself. The
alert policy is the one that was fixed at home.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from flowsheet.cohort.extract import Extract
from flowsheet.cohort.schema import Tables
from flowsheet.config import EvaluationConfig
from flowsheet.errors import CheckFailed
from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.report import ReportData, render
from flowsheet.evaluation.report.data import describe_task
from flowsheet.evaluation.subset_names import describe_subset
from flowsheet.evaluation.summaries import join_names
from flowsheet.lifecycle.deployment.evaluated_models import EvaluatedModel, load_models
from flowsheet.lifecycle.deployment.evaluation_section import render_home_section
from flowsheet.lifecycle.deployment.export_file import export_file
from flowsheet.lifecycle.deployment.home_comparison import (
    HomeComparison,
    compare_with_home,
    describe_metric,
    select_model,
)
from flowsheet.lifecycle.experiment.evaluate import VERSION, evaluate_predictions
from flowsheet.lifecycle.experiment.extract_batches import check_variables, load_stays
from flowsheet.lifecycle.experiment.predictions import PredictedFold, Predictions, make_rows
from flowsheet.lifecycle.experiment.prepare import collect_subgroups
from flowsheet.lifecycle.experiment.reference_data import StayRisks
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.prediction.development import SeenSubjects
from flowsheet.state.hashing import digest
from flowsheet.state.locations import Location
from flowsheet.state.store import Store
from flowsheet.timestamps import local_now_text
from flowsheet.tracking.evaluation_runs import PART, EvaluationDetails, record_evaluation
from flowsheet.typing import Floats, Ints, Progress
from flowsheet.windows.censoring import apply_weights, estimate_completeness
from flowsheet.windows.protocol import FoldId
from flowsheet.windows.sequences import Sequences


@dataclass(frozen=True)
class ExternalEvaluation:
    """The result of an evaluation."""

    evidence: Evidence
    comparisons: dict[str, HomeComparison]
    """By model."""
    extract: str
    """Fingerprint of the extract."""
    report: Location
    run_ids: dict[str, str]
    """By model: the MLflow run below that of the version."""
    summaries: dict[str, str]
    """By model: the ranking metric here and at home."""


def evaluate_elsewhere(
    references: Sequence[str], extract: Location, progress: Progress, out: Location | None = None
) -> ExternalEvaluation:
    """Evaluate registered versions on an extract, and record it below each version's run.

    The metrics, operating points, resamples and seed are those of the first version's experiment.

    Args:
        references: ``NAME@ALIAS`` or ``NAME/VERSION``.
        extract: folder of the cohort extract.
        progress: receives lines about the progress.
        out: file for a copy of the report.

    Raises:
        UsageError: there is no such version.
        CheckFailed: the tasks differ, the extract has no outcomes, lacks most of a model's
            variables, or has no subject that is new to the models; or a model has no list of its
            subjects.
    """
    records = Extract.open(extract, verify=True)
    models = load_models(references)
    check_outcomes(records, models[0].package.task.response)
    for model in models:
        check_variables(records, model.package)
    seen = {model.name: find_seen(model, records) for model in models}
    tables = _load_unseen(records, list(seen.values()))
    progress(f"{tables.stays.height:,} stays that are new to the models")
    predicted = {model.name: _predict(model, tables) for model in models}
    predictions = _collect(models, predicted, tables, records)
    stage = run_evaluation(models, predictions)
    evidence = Evidence.load(stage.folder)
    comparisons = {
        model.name: compare_with_home(
            model.package,
            records,
            tables,
            predicted[model.name],
            seen[model.name],
            home=select_model(model.home, model.home_name),
            here=select_model(evidence, model.name),
        )
        for model in models
    }
    summaries = {name: summarise_home(evidence, c) for name, c in comparisons.items()}
    report = _write_report(models, evidence, comparisons, stage, records)
    if out is not None:
        export_file(report, out)
    run_ids = {
        model.name: _record(
            model, evidence, summaries[model.name], stage=stage, report=report, extract=records
        )
        for model in models
    }
    return ExternalEvaluation(
        evidence, comparisons, records.fingerprint, out or report, run_ids, summaries
    )


def to_json(result: ExternalEvaluation) -> dict[str, Any]:
    """The result as plain values; what is not estimable is null."""
    models = {
        model: {
            "summary": result.summaries[model],
            "run": result.run_ids[model],
            "threshold": result.evidence.about["thresholds"][model],
            "differences": [d.model_dump() for d in comparison.differences],
            "figures": comparison.figures.fill_nan(None).to_dicts(),
        }
        for model, comparison in result.comparisons.items()
    }
    return {
        "extract": result.extract,
        "headline": result.evidence.headline,
        "models": models,
        "pairs": result.evidence.pairs.fill_nan(None).to_dicts(),
        "report": str(result.report),
    }


def check_outcomes(extract: Extract, response: str) -> None:
    """Check that the extract has outcomes of the response.

    Raises:
        CheckFailed: it has no episodes.
        UsageError: it has no episodes of the response, and nobody has looked for any.
    """
    if not extract.manifest.counts.get("episodes", extract.manifest.tables["episodes"].rows):
        raise CheckFailed(
            "the extract has no episodes, so that no outcome is known",
            where=str(extract.path / "episodes.parquet"),
            todo="ingest the records with their outcomes; `flowsheet score` needs none",
        )
    extract.check_response(response)


def find_seen(model: EvaluatedModel, extract: Extract) -> SeenSubjects:
    """The subjects of an extract on whom the model was developed."""
    return model.development.subjects.find_seen(extract.scan("stays").collect())


def _load_unseen(extract: Extract, seen: Sequence[SeenSubjects]) -> Tables:
    """The tables of the subjects on whom no model was developed."""
    known: Ints = np.unique(np.concatenate([s.seen for s in seen]))
    stays = extract.scan("stays").select("stay_id", "subject_id").collect()
    unseen = stays.filter(~pl.col("subject_id").is_in(known.tolist()))
    if unseen.is_empty():
        raise CheckFailed(
            f"the models were developed on all {stays['subject_id'].n_unique():,} subjects",
            where=str(extract.path),
            todo="evaluate on other patients; a model that was refitted on all subjects after a "
            "cross-validation has its figures in the run's report",
        )
    return load_stays(extract, unseen["stay_id"].sort().to_list())


def _predict(model: EvaluatedModel, tables: Tables) -> StayRisks:
    sequences = model.package.build_sequences(tables)
    return StayRisks(sequences, model.package.predict_sequences(sequences))


def _collect(
    models: Sequence[EvaluatedModel],
    predicted: dict[str, StayRisks],
    tables: Tables,
    extract: Extract,
) -> Predictions:
    """The predictions of all models in one table, weighted as the task asks.

    Args:
        models: the models.
        predicted: stays and risks of each.
        tables: the evaluated stays.
        extract: the extract; on the home extract the weights are those of the experiment.
    """
    weighted = weigh_rows(models[0], predicted[models[0].name].stays, extract)
    risks = {name: of_model.risk for name, of_model in predicted.items()}
    return collect_predictions(models, weighted, risks, tables)


def weigh_rows(model: EvaluatedModel, stays: Sequences, extract: Extract) -> Sequences:
    """The stays with the weights that the model's task asks for.

    Args:
        model: the model.
        stays: stays of the extract.
        extract: the extract; on the home extract the weights are those of the experiment.
    """
    completeness = (
        model.development.completeness
        if extract.fingerprint == model.development.extract
        else estimate_completeness(stays, model.package.task)
    )
    return apply_weights(stays, completeness)


def collect_predictions(
    models: Sequence[EvaluatedModel], stays: Sequences, risks: Mapping[str, Floats], tables: Tables
) -> Predictions:
    """The risks of all models in one table, with the alert policies that were fixed at home.

    Args:
        models: the models.
        stays: weighted stays, N rows.
        risks: {model: risk of each row, shape (N,)}.
        tables: the tables of the stays.
    """
    fold = PredictedFold(
        n_training_subjects=len(models[0].development.subjects.subjects),
        policies={model.name: model.development.policy for model in models},
    )
    return Predictions(
        make_rows(stays, risks, FoldId()), collect_subgroups(tables.stays, stays), (fold,)
    )


def run_evaluation(
    models: Sequence[EvaluatedModel],
    predictions: Predictions,
    *,
    fallback: Mapping[str, str] = MappingProxyType({}),
) -> Stage:
    """The stage with the predictions and their evidence, by the first model's evaluation.

    Args:
        models: the models.
        predictions: of all of them.
        fallback: {metric that cannot rank them here: metric to use instead}.
    """
    first = models[0]
    evaluation = first.record.read_config("evaluation", EvaluationConfig)
    metric = fallback.get(evaluation.metric, evaluation.metric)
    evaluation = evaluation.model_copy(update={"metric": metric})
    seed = int(first.record.config["seed"])
    titles = {model.name: model.title for model in models}
    key = digest(
        {
            "version": VERSION,
            "targets": predictions.targets_fingerprint(),
            "models": {model.name: model.package.digest for model in models},
            "probabilities": predictions.probabilities_fingerprint(),
            "evaluation": evaluation.model_dump(mode="json", exclude={"name"}),
            "seed": seed,
            "titles": titles,
        }
    )

    def build(folder: Path) -> None:
        predictions.save(folder)
        task = first.package.task
        evaluate_predictions(predictions, task, evaluation, seed, titles).save(folder)

    return run_stage("evaluation", key, build)


def summarise_home(evidence: Evidence, comparison: HomeComparison) -> str:
    """The ranking metric here and at home, in words."""
    subset = evidence.ranking_subset
    text = describe_metric(comparison.figures, evidence.about["metric"], subset)
    return text + describe_subset(subset, evidence.words)


def _title_of(model: EvaluatedModel) -> str:
    return model.home.titles[model.home_name]


def _write_report(
    models: Sequence[EvaluatedModel],
    evidence: Evidence,
    comparisons: dict[str, HomeComparison],
    stage: Stage,
    extract: Extract,
) -> Path:
    """Write the report beside the evidence; returns its path.

    Args:
        models: the models.
        evidence: the evidence.
        comparisons: each model here and at home.
        stage: the stage with the evidence, which names the report's folder.
        extract: the extract.
    """
    source = extract.manifest.source
    invented = " The patients are invented." if source.name == "simulated" else ""
    names = join_names([f"{_title_of(model)} ({model.version.reference})" for model in models])
    page = render(
        ReportData(
            title=f"{names} on {source.name}",
            evidence=evidence,
            question=describe_task(models[0].package.task),
            task=models[0].package.task,
            description="Registered models on another extract, with the alert policies that "
            f"were fixed at home.{invented}",
            opening_sections=(render_home_section(comparisons, evidence),),
            record={
                "Extract": {"source": source.name, "fingerprint": extract.fingerprint},
                "Versions": {m.version.reference: m.package.digest for m in models},
                "Thresholds": {m.name: m.development.policy.threshold for m in models},
            },
            created_at=local_now_text(),
        )
    )
    folder = Store.open().path("report", stage.key)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder / "report.html"


def _record(
    model: EvaluatedModel,
    evidence: Evidence,
    summary: str,
    *,
    stage: Stage,
    report: Path,
    extract: Extract,
) -> str:
    """Record the evaluation below the run of the model; returns the id of its run.

    Args:
        model: the model.
        evidence: the evidence of all models.
        summary: the ranking metric here and at home.
        stage: the stage with the evidence.
        report: the report.
        extract: the extract.
    """
    first = evidence.leaderboard.row(0, named=True)
    predictions = pl.scan_parquet(stage.folder / "predictions.parquet")
    stays = predictions.filter("scored").select(pl.col("stay_id").n_unique()).collect().item()
    details = EvaluationDetails(
        version=model.version.reference,
        source=extract.manifest.source.name,
        extract=extract.fingerprint,
        is_home=extract.fingerprint == model.development.extract,
        stays=stays,
        subjects=first["subjects"],
        ranking_subset=evidence.ranking_subset,
        metric=evidence.about["metric"],
        summary=summary,
    )
    key = digest([stage.key, model.version.reference, extract.fingerprint])
    metrics = evidence.metrics(model.name, part=PART)
    folders = {"evidence": stage.folder, "report": report.parent}
    return record_evaluation(model.version, key, details, metrics, folders)
