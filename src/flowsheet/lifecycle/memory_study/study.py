"""The memory study: what trained models remember of a dose, compared with the ground truth.

Every fold of the experiment is a replicate: another simulated ward, split and training. From the
trained models and their held-out stays the study computes each drug's true effect and every
model's response, the input gradients of the recurrent models, all metrics relative to the oracle's,
and one example stay with the gates of the LSTM.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.simulated import true_curves
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.config import Censor, ExperimentConfig, MemoryStudyConfig, Target
from flowsheet.errors import CheckFailed, UsageError, did_you_mean
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle.experiment.evaluate import title_models
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, TrainedModels
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.train import load_probabilities
from flowsheet.lifecycle.memory_study.dose_response import estimate_dose_response
from flowsheet.lifecycle.memory_study.example_stay import build_example_stay
from flowsheet.lifecycle.memory_study.figures import export_figures
from flowsheet.lifecycle.memory_study.oracle_bound import (
    ReplicateScores,
    compare_log_losses,
    score_replicate,
    summarize_scores,
)
from flowsheet.lifecycle.memory_study.replicate import Replicate
from flowsheet.lifecycle.memory_study.report import render_memory_section
from flowsheet.lifecycle.memory_study.report_data import MemoryReport
from flowsheet.models.base import MODELS
from flowsheet.state.hashing import digest

VERSION = 3
"""Increase it when the same models would give other results."""


def list_replicates(config: ExperimentConfig) -> list[ExperimentConfig]:
    """The experiment under consecutive seeds, of the ward, the split and the training alike.

    Raises:
        UsageError: the experiment does not suit the study; the message says why.
    """
    study, options = _check_experiment(config)
    replicates = []
    for i in range(study.replicates):
        cohort_options = {**config.cohort.options, "seed": options.seed + i}
        cohort = config.cohort.model_copy(update={"options": cohort_options})
        update = {"seed": config.seed + i, "memory": None, "cohort": cohort}
        replicates.append(config.model_copy(update=update))
    return replicates


def run_memory_study(
    config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels
) -> Stage:
    """The results of the study: ``MemoryReport`` as Parquet and JSON, its figures as SVG files.

    Raises:
        UsageError: the experiment does not suit the study; the message says why.
        CheckFailed: no held-out stay is long enough, or a true probability is missing.
    """
    study, _ = _check_experiment(config)
    model_keys = {
        fold.name: {name: stage.key for name, stage in trained[fold.name].items()}
        for fold in plan.folds
    }
    titles = title_models(config, trained)
    key = digest(
        {
            "version": VERSION,
            "study": study.model_dump(mode="json"),
            "models": model_keys,
            "titles": titles,
            "evaluation": [config.evaluation.resamples, config.evaluation.confidence],
        }
    )

    def make(folder: Path) -> None:
        replicates = [Replicate(fold, trained[fold.name], study) for fold in plan.folds]
        report = _make_report(config, study, replicates, titles)
        report.save(folder)
        for name, svg in export_figures(report).items():
            (folder / f"{name}.svg").write_text(svg, encoding="utf-8")

    return run_stage("memory", key, make)


def load_memory_report(stage: Stage) -> MemoryReport:
    """The results of :func:`run_memory_study`."""
    return MemoryReport.load(stage.folder)


def make_section(stage: Stage, models: Sequence[str]) -> Section:
    """The study's section of the experiment's report.

    ``models`` are those of the report in their order, because a model has one colour on the page.
    """
    return Section("memory", "Memory", render_memory_section(load_memory_report(stage), models))


def _check_experiment(config: ExperimentConfig) -> tuple[MemoryStudyConfig, WardOptions]:
    """The study and the parameters of the data-generating process."""
    study, task = config.memory, config.task
    if study is None:
        raise UsageError("the experiment has no memory study", todo="add one: memory.replicates=3")
    if config.cohort.source != "simulated":
        raise UsageError(
            "the memory study needs a simulated ward, whose data-generating process is known; "
            f"the source is {config.cohort.source}",
            where=f"cohort {config.cohort.name}",
            todo="choose cohort=simulated_memory",
        )
    options = make_source(config.cohort).options
    assert isinstance(options, WardOptions)
    _check_lags(study, options)
    if study.baseline not in config.models:
        raise UsageError(
            f"the baseline {study.baseline!r} is not among the models",
            where="memory.baseline",
            todo=did_you_mean(study.baseline, config.models),
        )
    if (task.step_hours, task.horizon, task.target) != (options.step_hours, 1, Target.state):
        raise UsageError(
            "the memory study needs a task that predicts the state in the ward's next step",
            where=f"task {task.name}: steps of {task.step_hours:g} h, horizon {task.horizon}, "
            f"target {task.target.value}",
            todo=f"choose a task with step_hours: {options.step_hours}, horizon: 1 and "
            "target: state",
        )
    if task.censor is Censor.competing:
        raise UsageError(
            "the memory study does not weight rows, as task.censor=competing would",
            where=f"task {task.name}",
            todo="choose task.censor=complete",
        )
    if config.features.treatment_columns != ("dose",) or config.features.treatments == "none":
        raise UsageError(
            "the memory study adds and removes doses, so the dose must be a drug's only feature",
            where=f"features {config.features.name}",
            todo="choose features=doses",
        )
    return study, options


def _check_lags(study: MemoryStudyConfig, options: WardOptions) -> None:
    if not study.gradient_lag <= study.lags < options.max_steps:
        raise UsageError(
            f"gradients {study.gradient_lag} steps back and effects over {study.lags} steps "
            "cannot be followed",
            where="memory.gradient_lag, memory.lags; the ward's longest stays have "
            f"{options.max_steps} steps",
            todo="choose gradient_lag <= lags < the ward's max_steps",
        )


def _make_report(
    config: ExperimentConfig,
    study: MemoryStudyConfig,
    replicates: list[Replicate],
    titles: dict[str, str],
) -> MemoryReport:
    first, confidence = replicates[0], config.evaluation.confidence
    scores = [_score(replicate, config) for replicate in replicates]
    families = {
        name: MODELS.get(package.kind).capabilities.family.value
        for name, package in first.model_packages.items()
    }
    responses = [_compute_responses(replicate, i) for i, replicate in enumerate(replicates)]
    gradients = [_compute_gradients(replicate, i) for i, replicate in enumerate(replicates)]
    return MemoryReport(
        effects=_tabulate_true_effects(first),
        responses=pl.concat(responses),
        gradients=pl.concat(gradients),
        scores=summarize_scores(scores, confidence),
        comparisons=compare_log_losses(scores, study.expected_orders, confidence, titles),
        example_stay=build_example_stay(first),
        about={
            "models": families,
            "highlighted_models": [name for name in study.highlighted_models if name in families],
            "baseline": study.baseline,
            "gradient_lag": study.gradient_lag,
            "dose": study.dose,
            "confidence": confidence,
            "resamples": config.evaluation.resamples,
            "seeds": [replicate.fold.config.seed for replicate in replicates],
            "trials": config.tuning.trials,
            "long_stays": [len(replicate.long_stays) for replicate in replicates],
            "subjects": [len(np.unique(replicate.test.subject_id)) for replicate in replicates],
            "step_hours": config.task.step_hours,
            "response": config.task.response,
            "titles": titles,
        },
    )


def _score(replicate: Replicate, config: ExperimentConfig) -> ReplicateScores:
    predictions = {
        name: load_probabilities(stage, "test") for name, stage in replicate.stages.items()
    }
    baseline = replicate.study.baseline
    if baseline not in predictions:
        raise CheckFailed(
            f"the baseline {baseline!r} could not be trained", where="memory.baseline"
        )
    return score_replicate(
        replicate.test,
        predictions,
        replicate.oracle,
        baseline,
        resamples=config.evaluation.resamples,
        seed=replicate.fold.config.seed,
    )


def _tabulate_true_effects(replicate: Replicate) -> pl.DataFrame:
    """(drug, shape, lag, effect) of the added dose in the data-generating process, in log odds."""
    drugs = list(replicate.dose_columns)
    doses = pl.DataFrame(
        {
            "drug": drugs,
            "shape": [replicate.options.drugs[drug].curve.shape for drug in drugs],
            "dose": [replicate.added_dose(drug) for drug in drugs],
        }
    )
    curves = true_curves(replicate.options).filter(pl.col("lag") <= replicate.study.lags)
    joined = doses.join(curves, on="drug", maintain_order="left_right")
    return joined.select("drug", "shape", "lag", effect=pl.col("effect") * pl.col("dose"))


def _compute_responses(replicate: Replicate, number: int) -> pl.DataFrame:
    """(replicate, model, drug, lag, response): the mean over the long stays, in log odds."""
    parts = []
    for model in replicate.model_packages:
        for drug, column in replicate.dose_columns.items():
            responses = estimate_dose_response(
                replicate.predictor(model),
                replicate.long_stays,
                column,
                dose=replicate.added_dose(drug),
                lags=replicate.study.lags,
                seed=replicate.fold.config.seed,
            )
            columns = {
                "replicate": number,
                "model": model,
                "drug": drug,
                "lag": np.arange(responses.shape[1]),
                "response": responses.mean(0),
            }
            parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def _compute_gradients(replicate: Replicate, number: int) -> pl.DataFrame:
    """(replicate, model, lag, norm, relative): gradients of the recurrent models, mean norms."""
    from flowsheet.lifecycle.memory_study.inspection import compute_input_gradients
    from flowsheet.models._recurrent import RecurrentModel

    schema = {
        "replicate": pl.Int64,
        "model": pl.String,
        "lag": pl.Int64,
        "norm": pl.Float64,
        "relative": pl.Float64,
    }
    parts = [pl.DataFrame(schema=schema)]
    for name, package in replicate.model_packages.items():
        if isinstance(package.model, RecurrentModel):
            stays = replicate.scale(name, replicate.long_stays)
            gradients = compute_input_gradients(package.model, stays, replicate.study.lags)
            norm = gradients.mean(axis=0)
            columns = {
                "replicate": number,
                "model": name,
                "lag": np.arange(len(norm)),
                "norm": norm,
                "relative": norm / norm[0],
            }
            parts.append(pl.DataFrame(columns, schema=schema))
    return pl.concat(parts)
