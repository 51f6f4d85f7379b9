"""The evaluation of the ablated models beside the whole ones, on the same rows."""

from __future__ import annotations

from flowsheet.config import ExperimentConfig
from flowsheet.lifecycle.experiment.evaluate import evaluate_models
from flowsheet.lifecycle.experiment.folds import AblationPlan, ExperimentPlan, TrainedModels
from flowsheet.lifecycle.experiment.stage import Stage


def join_ablated(
    plan: ExperimentPlan, ablation: AblationPlan, whole: TrainedModels, ablated: TrainedModels
) -> tuple[ExperimentConfig, TrainedModels]:
    """The ablated models and the whole ones, and how they are evaluated together.

    Args:
        plan: all folds of the experiment.
        ablation: what was trained.
        whole: all whole models of every fold.
        ablated: the ablated models of every fold.
    """
    together = {
        fold.name: {
            **{name: whole[fold.name][name] for name in ablation.whole},
            **ablated.get(fold.name, {}),
        }
        for fold in plan.folds
    }
    config = plan.first_fold.config
    models = {name: config.models[name] for name in ablation.whole}
    if ablation.plan:
        models |= ablation.plan.first_fold.config.models
    evaluation = config.evaluation.model_copy(update={"operating_points": {}})
    changes = {"models": models, "evaluation": evaluation}
    return config.model_copy(update=changes), together


def evaluate_ablation(
    plan: ExperimentPlan, ablation: AblationPlan, whole: TrainedModels, ablated: TrainedModels
) -> Stage:
    """Evaluate the ablated models and the whole ones; without metrics at operating points.

    Args:
        plan: all folds of the experiment.
        ablation: what was trained.
        whole: all whole models of every fold.
        ablated: the ablated models of every fold.
    """
    config, together = join_ablated(plan, ablation, whole, ablated)
    return evaluate_models(config, plan, together)
