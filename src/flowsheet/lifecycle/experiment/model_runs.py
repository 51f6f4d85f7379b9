"""The MLflow runs of models, below their experiment's run: of each model, and of its folds."""

from __future__ import annotations

from flowsheet.evaluation.evidence import Evidence
from flowsheet.evaluation.subsets import ALL
from flowsheet.lifecycle.experiment.folds import ExperimentPlan, FoldSpec, TrainedModels
from flowsheet.lifecycle.experiment.train import load_trials, training_key
from flowsheet.state.json_files import read_json
from flowsheet.tracking.run_records import TRIALS
from flowsheet.tracking.runs import Tracker


def start_model_run(tracker: Tracker, plan: ExperimentPlan, name: str, run_id: str) -> str:
    """The MLflow run of a model below its experiment's, which is created if it does not exist.

    Args:
        tracker: where to log.
        plan: the folds that the model is trained in.
        name: of the model.
        run_id: of the experiment.
    """
    return tracker.start_model_run(run_id, name, plan.model_key(name))


def start_fold_run(plan: ExperimentPlan, fold: FoldSpec, name: str, run_id: str) -> str:
    """The MLflow run that a fold's trials belong to: the model's, or one below it for each fold.

    Args:
        plan: all folds of the experiment.
        fold: the fold in which the model is trained.
        name: the model's name in the experiment.
        run_id: the experiment's MLflow run.

    Returns:
        The id of the run, which is created if it does not exist.
    """
    tracker = Tracker.open()
    model_run_id = start_model_run(tracker, plan, name, run_id)
    if len(plan.all_folds) == 1:
        return model_run_id
    key = training_key(fold.config, name, fold.data)
    return tracker.start_fold_run(model_run_id, name, fold.name, key)


def record_model(
    tracker: Tracker,
    plan: ExperimentPlan,
    trained: TrainedModels,
    name: str,
    run_id: str,
    *,
    evidence: Evidence,
) -> None:
    """Log trials and parameters to the model's fold runs, and test metrics to the model's run.

    MLflow's page that compares runs opens on the metric that was logged first.

    Args:
        tracker: where to log.
        plan: the folds that the model is trained in.
        trained: the stages of each fold.
        name: of the model.
        run_id: of the experiment.
        evidence: the model's evaluation.
    """
    model_run_id = start_model_run(tracker, plan, name, run_id)
    tracker.log(model_run_id, metrics=_rank_metrics(evidence, name))
    for fold in plan.all_folds:
        stage = trained[fold.name][name]
        metric = fold.config.tuning.metric
        fold_run_id = start_fold_run(plan, fold, name, run_id)
        tracker.sync_trials(fold_run_id, metric, load_trials(stage))
        tuning = read_json(stage.folder / "tuning.json")
        tracker.log(
            fold_run_id,
            params={f"model.{param}": value for param, value in tuning["params"].items()},
            metrics={
                f"valid.{metric}": tuning["value"],
                "training.seconds": stage.seconds,
                TRIALS: len(tuning["trials"]),
            },
        )
        tracker.log_artifacts(fold_run_id, stage.folder / "tables", "tables")
        if fold_run_id != model_run_id:
            tracker.finish(fold_run_id)


def _rank_metrics(evidence: Evidence, model: str) -> dict[str, float]:
    """The model's metrics on the held-out subjects, the one that ranks the models first."""
    metrics = evidence.metrics(model)
    first = name_ranking_metric(evidence)
    return {name: metrics[name] for name in sorted(metrics, key=lambda name: name != first)}


def name_ranking_metric(evidence: Evidence) -> str:
    """The tracker's name of the metric that ranks the models."""
    metric, subset = evidence.about["metric"], evidence.ranking_subset
    return f"test.{metric}" if subset == ALL else f"test.{subset}.{metric}"
