"""The folds of an experiment: a holdout split, the folds of a cross-validation, or replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData, training_key
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json
from flowsheet.windows.protocol import FoldId

TrainedModels = Mapping[str, Mapping[str, Stage]]
"""{fold name: {model: stage}}."""
FINAL_REFIT = "final refit"
"""Name of the fold whose models train on all subjects, after the other folds evaluated them."""


class FoldSpec(FrozenModel):
    """One fold: all models are trained and tested on the same split."""

    id: FoldId = FoldId()
    config: ExperimentConfig
    data: FoldData

    @property
    def name(self) -> str:
        """The fold's name; empty when the experiment has one fold only."""
        return self.id.name

    @property
    def label(self) -> str:
        """Suffix for the names of models that are trained in this fold, such as " 1.2", or ""."""
        return f" {self.name}" if self.name else ""


class ExperimentPlan(FrozenModel):
    """All folds of an experiment."""

    folds: tuple[FoldSpec, ...]
    final_refit: FoldSpec | None
    """The fold whose models are registered."""

    @property
    def all_folds(self) -> tuple[FoldSpec, ...]:
        """Every fold in which models are trained, the final refit included."""
        if self.final_refit is None or self.final_refit in self.folds:
            return self.folds
        return (*self.folds, self.final_refit)

    @property
    def first_fold(self) -> FoldSpec:
        """The fold that stands for all where only one can be shown."""
        return self.folds[0]

    def model_key(self, model: str) -> str:
        """Digest of everything that a model's results depend on, in all folds."""
        keys = [training_key(fold.config, model, fold.data) for fold in self.all_folds]
        return keys[0] if len(keys) == 1 else digest(keys)

    def split_fingerprint(self) -> str:
        """sha256 of the subjects in each part of each fold."""
        fingerprints = [fold.data.load_split().fingerprint for fold in self.folds]
        return fingerprints[0] if len(fingerprints) == 1 else digest(fingerprints)


class AblatedModel(FrozenModel):
    """A model that is trained again with some of its inputs."""

    name: str
    model: str
    """The whole model."""
    inputs: str
    """The inputs that are left, a key of ``ablation.inputs``."""
    reason_left_out: str = ""
    """Why it is not trained; empty where it is."""


class AblationPlan(FrozenModel):
    """The trainings of an ablation."""

    whole: tuple[str, ...]
    """The models that are ablated."""
    models: tuple[AblatedModel, ...]
    plan: ExperimentPlan | None
    """The folds with the ablated models; None where none is trained."""

    def without(self, reasons: Mapping[str, str]) -> AblationPlan:
        """With the reason why some models could not be trained, after all."""
        models = tuple(
            model.model_copy(
                update={"reason_left_out": reasons.get(model.name, model.reason_left_out)}
            )
            for model in self.models
        )
        return self.model_copy(update={"models": models})


class AblationResults(FrozenModel):
    """A completed ablation."""

    plan: AblationPlan
    trained: dict[str, dict[str, Stage]]
    """{fold name: {ablated model: stage}}."""
    evidence: Stage
    """Of the ablated models and the whole ones."""

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages, by a name for people."""
        stages = {
            f"{model} {fold_name}".strip(): stage
            for fold_name, models in self.trained.items()
            for model, stage in models.items()
        }
        return {**stages, "ablation": self.evidence}


class ExperimentResults(FrozenModel):
    """The stages of a completed experiment, before they are recorded."""

    config: ExperimentConfig
    plan: ExperimentPlan
    trained: dict[str, dict[str, Stage]]
    """{fold name: {model: stage}}."""
    excluded_models: dict[str, str]
    """Models that do not apply to the task, and why."""
    evidence: Stage
    memory: Stage | None = None
    ablation: AblationResults | None = None

    @property
    def models(self) -> list[str]:
        """Names of the trained models."""
        return list(self.trained[self.plan.first_fold.name])

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages, by a name for people."""
        data = self.plan.first_fold.data
        stages = {"extract": data.extract, "windows": data.windows, "split": data.split}
        for fold_name, models in self.trained.items():
            for model, stage in models.items():
                stages[f"{model} {fold_name}".strip()] = stage
        stages["evidence"] = self.evidence
        if self.memory:
            stages["memory"] = self.memory
        if self.ablation:
            stages |= self.ablation.stages
        return stages


def plan_folds(
    config: ExperimentConfig, extract: Stage, windows: Stage, split: Stage
) -> ExperimentPlan:
    """One fold for each split of the protocol, and a final refit where models are registered.

    With a single fold, its own models are registered. With several, the final refit trains the
    registered models on all subjects.

    Args:
        config: the experiment's configuration.
        extract: stage of the cohort extract.
        windows: stage of the sequences.
        split: stage of the splits.
    """

    def fold_data(split_name: str) -> FoldData:
        return FoldData(extract=extract, windows=windows, split=split, split_name=split_name)

    folds = tuple(
        FoldSpec(
            id=FoldId(entry["name"], entry["repeat"], entry["fold"]),
            config=config,
            data=fold_data(entry["split_name"]),
        )
        for entry in read_json(split.folder / "folds.json")
    )
    if not config.registry.register_models:
        return ExperimentPlan(folds=folds, final_refit=None)
    if len(folds) == 1:
        return ExperimentPlan(folds=folds, final_refit=folds[0])
    final_refit = FoldSpec(id=FoldId(FINAL_REFIT), config=config, data=fold_data("final_refit"))
    return ExperimentPlan(folds=folds, final_refit=final_refit)


def repeat_recorded_trials(plan: ExperimentPlan) -> ExperimentPlan:
    """The plan with the numbers of trials that ``tuning.recorded_trials`` names."""

    def repeat(fold: FoldSpec) -> FoldSpec:
        recorded = fold.config.tuning.recorded_trials
        models = {
            name: model.model_copy(update={"trials": recorded[f"{name}{fold.label}"]})
            if f"{name}{fold.label}" in recorded
            else model
            for name, model in fold.config.models.items()
        }
        return fold.model_copy(update={"config": fold.config.model_copy(update={"models": models})})

    folds = tuple(repeat(fold) for fold in plan.folds)
    if plan.final_refit in plan.folds:
        return ExperimentPlan(folds=folds, final_refit=folds[plan.folds.index(plan.final_refit)])
    return ExperimentPlan(folds=folds, final_refit=plan.final_refit and repeat(plan.final_refit))


def combine_replicates(plans: Sequence[ExperimentPlan]) -> ExperimentPlan:
    """The folds of experiments with different seeds; the models of the first are registered."""
    folds = tuple(
        fold.model_copy(update={"id": FoldId(f"seed {fold.config.seed}", i, fold.id.fold)})
        for i, plan in enumerate(plans)
        for fold in plan.folds
    )
    return ExperimentPlan(folds=folds, final_refit=folds[0] if plans[0].final_refit else None)
