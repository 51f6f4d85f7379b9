"""Which models are trained again, with which inputs.

An ablated model has the parameters that the tuning has chosen for the whole model in the same fold:
the two differ by their inputs alone. It is tuned no more, and never registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from flowsheet.config import (
    AblatedInputs,
    AblationConfig,
    ExperimentConfig,
    FeatureRole,
    ModelConfig,
    Pruner,
    list_roles,
)
from flowsheet.errors import CheckFailed, UsageError, did_you_mean
from flowsheet.lifecycle.experiment.folds import (
    AblatedModel,
    AblationPlan,
    ExperimentPlan,
    FoldSpec,
    TrainedModels,
)
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import load_params
from flowsheet.models._rows import InputParams, find_inputs
from flowsheet.models.base import MODELS
from flowsheet.state.json_files import read_json
from flowsheet.windows.sequences import Sequences

_NO_COLUMNS = "the model is given no such columns"
_ALL_INPUTS = "these are all the inputs"
_ONE_TRIAL = {
    "trials": 1,
    "minutes": None,
    "pruner": Pruner.none,
    "partial_data": None,
    "leave_out": None,
}
DEFAULT_KINDS = ("gradient_boosting", "logistic_regression")
"""Models that are ablated where none are named: cheap, and of two families."""


def plan_ablation(plan: ExperimentPlan, trained: TrainedModels) -> AblationPlan:
    """The trainings of the ablation; inputs that change nothing, or leave nothing, are left out.

    Args:
        plan: all folds of the experiment, whose configuration has an ablation.
        trained: the whole models of every fold.

    Raises:
        CheckFailed: none of the models that are to be ablated applies to the task.
    """
    config = plan.first_fold.config
    ablation = config.ablation
    assert ablation
    first = trained[plan.first_fold.name]
    names = ablation.models or choose_models(config, first)
    names = tuple(name for name in names if name in first)  # those that apply to the task
    if not names:
        raise CheckFailed(
            "none of the models that are to be ablated applies to the task",
            where=f"ablation.models: {', '.join(ablation.models or ()) or 'null'}",
            todo="name other models, or start again with ablation=null: the models are kept",
        )
    sequences = Sequences.load(plan.first_fold.data.windows.folder / "sequences")
    params = {
        name: [load_params(trained[fold.name][name]) for fold in plan.folds] for name in names
    }
    models = tuple(
        AblatedModel(
            name=f"{name}_{label}",
            model=name,
            inputs=label,
            reason_left_out=_find_reason(config.models[name], params[name], inputs, sequences),
        )
        for name in names
        for label, inputs in ablation.inputs.items()
    )
    trainable = [model for model in models if not model.reason_left_out]
    folds = tuple(_ablate_fold(fold, trainable, trained[fold.name]) for fold in plan.folds)
    ablated_plan = ExperimentPlan(folds=folds, final_refit=None) if trainable else None
    return AblationPlan(whole=names, models=models, plan=ablated_plan)


def choose_models(config: ExperimentConfig, trained: Mapping[str, Stage]) -> tuple[str, ...]:
    """The first model of each of ``DEFAULT_KINDS``, or the best one by its validation score."""
    names = [name for name in trained if not why_not_ablated(config.models[name])]
    by_kind = {kind: [n for n in names if config.models[n].kind == kind] for kind in DEFAULT_KINDS}
    chosen = [of_kind[0] for of_kind in by_kind.values() if of_kind]
    if chosen or not names:
        return tuple(chosen)
    scores = {n: float(read_json(trained[n].folder / "tuning.json")["value"]) for n in names}
    return (max(sorted(names), key=lambda name: scores[name]),)


def check_ablation(config: ExperimentConfig) -> None:
    """Check that the models that are named, or any, can be ablated.

    Raises:
        UsageError: one cannot, or is not among the models of the experiment.
    """
    if config.ablation is None:
        return
    if all(why_not_ablated(model) for model in config.models.values()):
        raise UsageError(
            "none of the models has inputs that an ablation can leave out",
            where="ablation",
            todo="add a model that takes the inputs, such as logistic_regression, or set "
            "ablation=null",
        )
    for name in config.ablation.models or ():
        if name not in config.models:
            raise UsageError(
                f"the ablation names the model {name!r}, which the experiment does not run",
                where="ablation.models",
                todo=did_you_mean(name, config.models),
            )
        reason = why_not_ablated(config.models[name])
        if reason:
            raise UsageError(
                f"the ablation names the model {name!r}: {reason}",
                where="ablation.models",
                todo="name models that take the inputs of a row, such as logistic_regression",
            )
    _check_names(config, config.ablation)


def _check_names(config: ExperimentConfig, ablation: AblationConfig) -> None:
    taken = set(config.models)
    for name, label in product(ablation.models or config.models, ablation.inputs):
        if f"{name}_{label}" in taken:
            raise UsageError(
                f"the experiment has a model {name}_{label} already",
                where=f"ablation.inputs.{label}",
                todo="give the model or the inputs another name",
            )
        taken.add(f"{name}_{label}")


def why_not_ablated(model: ModelConfig) -> str:
    """Why inputs of a model cannot be left out; empty where they can."""
    model_class = MODELS.get(model.kind)
    if not issubclass(model_class.Params, InputParams):
        return "it does not take columns by their roles"
    if model_class.capabilities.history:
        return "it always takes the earlier responses"
    return ""


def _ablate_fold(
    fold: FoldSpec, models: Sequence[AblatedModel], trained: Mapping[str, Stage]
) -> FoldSpec:
    """The fold with the ablated models in place of the whole ones."""
    config = fold.config
    assert config.ablation
    ablated = {
        model.name: _ablate(
            config.models[model.model],
            load_params(trained[model.model]),
            config.ablation.inputs[model.inputs],
        )
        for model in models
    }
    tuning = config.tuning.model_copy(update=_ONE_TRIAL)
    changes = {"models": ablated, "tuning": tuning}
    return fold.model_copy(update={"config": config.model_copy(update=changes)})


def _ablate(model: ModelConfig, params: dict[str, Any], inputs: AblatedInputs) -> ModelConfig:
    """The model with the parameters of the whole one, and some of its inputs."""
    changed = {**params, "roles": _list_left(params, inputs)}
    has_history = bool(params.get("history", False)) and inputs.history
    if "history" in params:
        changed["history"] = has_history
    return ModelConfig(kind=model.kind, params=changed, space={}, history=has_history)


def _list_left(params: dict[str, Any], inputs: AblatedInputs) -> tuple[FeatureRole, ...]:
    """The roles that are left of those that the whole model is given."""
    whole = InputParams(roles=params.get("roles", "all")).roles
    return tuple(role for role in list_roles(inputs.roles) if role in list_roles(whole))


def _find_reason(
    model: ModelConfig,
    params: Sequence[dict[str, Any]],
    inputs: AblatedInputs,
    sequences: Sequences,
) -> str:
    """Why a model is not trained again with these inputs; empty where it is.

    The tuning may have chosen other roles in each fold: what one of them leaves nothing of is
    trained in none, and what all of them leave whole.

    Args:
        model: the whole model.
        params: its parameters in each fold.
        inputs: what is left.
        sequences: whose columns are asked for.
    """
    reasons = {_find_reason_of_fold(model, of_fold, inputs, sequences) for of_fold in params}
    if _NO_COLUMNS in reasons:
        return _NO_COLUMNS
    return _ALL_INPUTS if reasons == {_ALL_INPUTS} else ""


def _find_reason_of_fold(
    model: ModelConfig, params: dict[str, Any], inputs: AblatedInputs, sequences: Sequences
) -> str:
    """The same for the parameters of one fold."""
    if not _list_left(params, inputs):
        return _NO_COLUMNS
    model_class = MODELS.get(model.kind)
    ablated = _ablate(model, params, inputs)
    whole = find_inputs(sequences, model_class.Params.model_validate(params))
    try:
        left = find_inputs(sequences, model_class.Params.model_validate(ablated.params))
    except CheckFailed:
        return _NO_COLUMNS
    if left == whole and ablated.history == bool(params.get("history", False)):
        return _ALL_INPUTS
    return ""
