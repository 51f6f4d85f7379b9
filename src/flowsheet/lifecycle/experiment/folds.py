"""How often an experiment trains everything: once, once a fold, or once a replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import FoldData, training_key
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json

TrainedModels = Mapping[str, Mapping[str, Stage]]
"""{round: {model: its stage}}."""


class FoldSpec(FrozenModel):
    """Everything is trained on one split and tested on it."""

    name: str = ""
    """Empty when there is no other."""
    repeat: int = 0
    fold: int = 0
    config: ExperimentConfig
    data: FoldData

    @property
    def label(self) -> str:
        """What follows the name of a model that is trained in it."""
        return f" {self.name}" if self.name else ""


class ExperimentPlan(FrozenModel):
    """All rounds of an experiment."""

    folds: tuple[FoldSpec, ...]
    final_refit: FoldSpec | None
    """The one whose models are registered."""

    @property
    def all_folds(self) -> tuple[FoldSpec, ...]:
        """Whatever has to be trained."""
        extra = (
            ()
            if self.final_refit is None or self.final_refit in self.folds
            else (self.final_refit,)
        )
        return (*self.folds, *extra)

    @property
    def first_fold(self) -> FoldSpec:
        """The round that a reader is shown where one must stand for all."""
        return self.folds[0]

    def key(self, model: str) -> str:
        """What a model's figures depend on in all rounds."""
        keys = [training_key(each.config, model, each.data) for each in self.all_folds]
        return keys[0] if len(keys) == 1 else digest(keys)

    def split_fingerprint(self) -> str:
        """sha256 of who is where in all rounds."""
        found = [each.data.load_split().fingerprint for each in self.folds]
        return found[0] if len(found) == 1 else digest(found)


class ExperimentResults(FrozenModel):
    """What an experiment has come to, before it is told to anybody."""

    config: ExperimentConfig
    plan: ExperimentPlan
    trained: dict[str, dict[str, Stage]]
    """{round: {model: its stage}}."""
    left_out: dict[str, str]
    """Models that do not apply, and why."""
    evidence: Stage
    memory: Stage | None = None

    @property
    def models(self) -> list[str]:
        """Those that were trained."""
        return list(self.trained[self.plan.first_fold.name])

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages by a name that a person understands."""
        data = self.plan.first_fold.data
        models = {
            f"{name} {each}".strip(): made
            for each, some in self.trained.items()
            for name, made in some.items()
        }
        ends = {"evidence": self.evidence} | ({"memory": self.memory} if self.memory else {})
        return {
            "extract": data.extract,
            "windows": data.windows,
            "split": data.split,
            **models,
            **ends,
        }


def plan_folds(
    config: ExperimentConfig, extract: Stage, windows: Stage, split: Stage
) -> ExperimentPlan:
    """A round for each fold of the protocol; the models in service see everybody when every fold has been judged."""
    rounds = tuple(
        FoldSpec(
            name=fold["name"],
            repeat=fold["repeat"],
            fold=fold["fold"],
            config=config,
            data=FoldData(extract=extract, windows=windows, split=split, part=fold["part"]),
        )
        for fold in read_json(split.folder / "folds.json")
    )
    if not config.registry.register_models:
        return ExperimentPlan(folds=rounds, final_refit=None)
    if len(rounds) == 1:
        return ExperimentPlan(folds=rounds, final_refit=rounds[0])
    everybody = FoldData(extract=extract, windows=windows, split=split, part="service")
    return ExperimentPlan(
        folds=rounds, final_refit=FoldSpec(name="service", config=config, data=everybody)
    )


def combine_replicates(plans: Sequence[ExperimentPlan]) -> ExperimentPlan:
    """The rounds of whole experiments that differ in their seeds; the first one's models go into service."""
    rounds = tuple(
        each.model_copy(update={"name": f"seed {each.config.seed}", "repeat": i})
        for i, one in enumerate(plans)
        for each in one.folds
    )
    return ExperimentPlan(folds=rounds, final_refit=rounds[0] if plans[0].final_refit else None)
