"""The memory study: what trained models remember of a dose, beside the law of a simulated ward.

Every round of the experiment is a replicate: another ward, split and training. From the trained
model packages and their held-out stays the study takes each drug's true effect beside every model's
response, the reach of the recurrent models' gradients, all figures beside the law's own, and one
stay with the gates of the LSTM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from flowsheet.cohort.ingest import make_source
from flowsheet.cohort.sources.simulated import true_curves
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.config import ExperimentConfig, MemoryStudyConfig, Response
from flowsheet.errors import CheckFailed, UsageError, did_you_mean
from flowsheet.evaluation.report import Section
from flowsheet.lifecycle import memory_study as measures
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, TrainedModels
from flowsheet.lifecycle.experiment.stage import Stage, run_stage
from flowsheet.lifecycle.experiment.train import load_probabilities
from flowsheet.lifecycle.memory_study.example_stay import shown_stay
from flowsheet.lifecycle.memory_study.replicate import Replicate
from flowsheet.lifecycle.memory_study.report import MemoryReport, drawings, memory_section
from flowsheet.models.base import MODELS
from flowsheet.state.hashing import digest

VERSION = 1
"""Raise it when the same models would give other figures."""


def replicates(config: ExperimentConfig) -> list[ExperimentConfig]:
    """The experiment and its repetitions under the next seeds, of ward and of split and training
    alike.

    Raises:
        UsageError: the study would make no sense of this experiment (says why).
    """
    study, options = _checked(config)
    return [
        config.model_copy(
            update={
                "seed": config.seed + i,
                "memory": None,
                "cohort": config.cohort.model_copy(
                    update={"options": {**config.cohort.options, "seed": options.seed + i}}
                ),
            }
        )
        for i in range(study.replicates)
    ]


def study(config: ExperimentConfig, plan: ExperimentPlan, trained: TrainedModels) -> Stage:
    """All that the study found: ``MemoryReport`` as Parquet and JSON, and its drawings as SVG
    files.

    Raises:
        UsageError: the study would make no sense of this experiment (says why).
        CheckFailed: no held-out stay is long enough, or the ward's law is not known for every row.
    """
    wanted, _ = _checked(config)
    key = digest(
        {
            "version": VERSION,
            "study": wanted.model_dump(mode="json"),
            "models": {
                each.name: {name: made.key for name, made in trained[each.name].items()}
                for each in plan.folds
            },
            "evaluation": [config.evaluation.resamples, config.evaluation.confidence],
        }
    )

    def make(folder: Path) -> None:
        told = _study(
            config, wanted, [Replicate(each, trained[each.name], wanted) for each in plan.folds]
        )
        told.save(folder)
        for name, drawing in drawings(told).items():
            (folder / f"{name}.svg").write_text(drawing)

    return run_stage("memory", key, make)


def report(made: Stage) -> MemoryReport:
    """What :func:`study` found, for the page."""
    return MemoryReport.load(made.folder)


def section(made: Stage, order: Sequence[str]) -> Section:
    """The study's section of the experiment's report; ``order`` is that of its models, whose colours are kept."""
    return Section("memory", "Memory", memory_section(report(made), order))


def _checked(config: ExperimentConfig) -> tuple[MemoryStudyConfig, WardOptions]:
    """The study and the ward's law."""
    study, task = config.memory, config.task
    if study is None:
        raise UsageError(
            "the experiment has no memory study", todo="give it one: memory.replicates=3"
        )
    if config.cohort.source != "simulated":
        raise UsageError(
            f"the memory study needs a ward whose law is known; {config.cohort.source} is none",
            where=f"cohort {config.cohort.name}",
            todo="choose cohort=simulated_memory",
        )
    options = make_source(config.cohort).options
    assert isinstance(options, WardOptions)
    _check_reach(study, options, list(config.models))
    if (task.step_hours, task.horizon, task.response) != (options.step_hours, 1, Response.state):
        raise UsageError(
            "the memory study asks for the state in the ward's own next step",
            where=f"task {task.name}: steps of {task.step_hours:g} h, horizon {task.horizon}, {task.response.value}",
            todo=f"choose a task with step_hours: {options.step_hours}, horizon: 1 and response: state",
        )
    if config.features.treatment_columns != ("dose",) or config.features.treatments == "none":
        raise UsageError(
            "the memory study adds and takes away doses, so drugs must be told by their dose alone",
            where=f"features {config.features.name}",
            todo="choose features=doses",
        )
    return study, options


def _check_reach(study: MemoryStudyConfig, options: WardOptions, models: list[str]) -> None:
    if study.baseline not in models:
        raise UsageError(
            f"the study counts from {study.baseline!r}, which is not among the models",
            where="memory.baseline",
            todo=did_you_mean(study.baseline, models),
        )
    if not study.gradient_lag <= study.lags < options.max_steps:
        raise UsageError(
            f"gradients {study.gradient_lag} steps back and effects over {study.lags} steps cannot be followed",
            where=f"memory.gradient_lag, memory.lags; the ward's longest stays have {options.max_steps} steps",
            todo="choose far <= lags < the ward's max_steps",
        )


def _study(
    config: ExperimentConfig, study: MemoryStudyConfig, rounds: list[Replicate]
) -> MemoryReport:
    first, evaluation = rounds[0], config.evaluation
    judged = [_judge(each, study, config) for each in rounds]
    known = list(first.model_packages)
    return MemoryReport(
        curves=_curves(first),
        responses=pl.concat([_responses(each, i) for i, each in enumerate(rounds)]),
        gradients=pl.concat([_gradients(each, i) for i, each in enumerate(rounds)]),
        figures=measures.figures(judged, evaluation.confidence),
        orders=measures.orders(judged, study.expected_orders, evaluation.confidence),
        stay=shown_stay(first, study),
        about={
            "models": {
                name: MODELS.get(first.model_packages[name].kind).capabilities.family.value
                for name in known
            },
            "closer": [name for name in study.highlighted_models if name in known],
            "baseline": study.baseline,
            "far": study.gradient_lag,
            "doses": study.dose,
            "confidence": evaluation.confidence,
            "resamples": evaluation.resamples,
            "seeds": [each.round.config.seed for each in rounds],
            "trials": config.tuning.trials,
            "followed": [len(each.followed) for each in rounds],
            "subjects": [len(np.unique(each.test.subject_id)) for each in rounds],
            "step_hours": config.task.step_hours,
        },
    )


def _judge(each: Replicate, study: MemoryStudyConfig, config: ExperimentConfig) -> measures.Judged:
    told = {name: load_probabilities(made, "test") for name, made in each.stages.items()}
    if study.baseline not in told:
        raise CheckFailed(f"the study counts from {study.baseline!r}, which could not be trained")
    return measures.judge(
        each.test,
        told,
        each.law,
        study.baseline,
        resamples=config.evaluation.resamples,
        seed=each.round.config.seed,
    )


def _curves(each: Replicate) -> pl.DataFrame:
    """(drug, shape, lag, effect) of the studied dose under the law, in log odds."""
    doses = pl.DataFrame(
        {
            "drug": list(each.drugs),
            "shape": [each.options.drugs[drug].curve.shape for drug in each.drugs],
            "dose": [each.dose(drug) for drug in each.drugs],
        }
    )
    curves = true_curves(each.options).filter(pl.col("lag") <= each.study.lags)
    joined = doses.join(curves, on="drug", maintain_order="left_right")
    return joined.select("drug", "shape", "lag", effect=pl.col("effect") * pl.col("dose"))


def _responses(each: Replicate, number: int) -> pl.DataFrame:
    """(replicate, model, drug, lag, response): the mean over the followed stays, in log odds."""

    def parts() -> Iterator[pl.DataFrame]:
        for name in each.model_packages:
            for drug, column in each.drugs.items():
                found = measures.dose_response(
                    each.predictor(name),
                    each.followed,
                    column,
                    dose=each.dose(drug),
                    lags=each.study.lags,
                    seed=each.round.config.seed,
                )
                lag = np.arange(found.shape[1])
                yield pl.DataFrame(
                    {
                        "replicate": number,
                        "model": name,
                        "drug": drug,
                        "lag": lag,
                        "response": found.mean(0),
                    }
                )

    return pl.concat(parts())


def _gradients(each: Replicate, number: int) -> pl.DataFrame:
    """(replicate, model, lag, norm, relative) of the recurrent models: the mean norm over the followed stays."""
    from flowsheet.lifecycle.memory_study.inspection import input_gradients
    from flowsheet.models._recurrent import RecurrentModel

    schema = {
        "replicate": pl.Int64,
        "model": pl.String,
        "lag": pl.Int64,
        "norm": pl.Float64,
        "relative": pl.Float64,
    }
    parts = [pl.DataFrame(schema=schema)]
    for name, model_package in each.model_packages.items():
        if isinstance(model_package.model, RecurrentModel):
            norm = input_gradients(
                model_package.model, each.scaled(name, each.followed), each.study.lags
            ).mean(axis=0)
            columns = {
                "replicate": number,
                "model": name,
                "lag": np.arange(len(norm)),
                "norm": norm,
            }
            parts.append(pl.DataFrame({**columns, "relative": norm / norm[0]}, schema=schema))
    return pl.concat(parts)
