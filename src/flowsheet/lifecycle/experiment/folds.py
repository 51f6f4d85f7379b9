"""How often an experiment trains everything: once, once a fold, or once a replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowsheet.config import ExperimentConfig, FrozenModel
from flowsheet.lifecycle.experiment.stage import Stage
from flowsheet.lifecycle.experiment.train import Data, training_key
from flowsheet.state.hashing import digest
from flowsheet.state.json_files import read_json

Trained = Mapping[str, Mapping[str, Stage]]
"""{round: {model: its stage}}."""


class Round(FrozenModel):
    """Everything is trained on one split and tested on it."""

    name: str = ""
    """Empty when there is no other."""
    repeat: int = 0
    fold: int = 0
    config: ExperimentConfig
    data: Data

    @property
    def suffix(self) -> str:
        """What follows the name of a model that is trained in it."""
        return f" {self.name}" if self.name else ""


class Plan(FrozenModel):
    """All rounds of an experiment."""

    rounds: tuple[Round, ...]
    service: Round | None
    """The one whose models are registered."""

    @property
    def every(self) -> tuple[Round, ...]:
        """Whatever has to be trained."""
        extra = () if self.service is None or self.service in self.rounds else (self.service,)
        return (*self.rounds, *extra)

    @property
    def first(self) -> Round:
        """The round that a reader is shown where one must stand for all."""
        return self.rounds[0]

    def key(self, model: str) -> str:
        """What a model's figures depend on in all rounds."""
        keys = [training_key(each.config, model, each.data) for each in self.every]
        return keys[0] if len(keys) == 1 else digest(keys)

    def split_fingerprint(self) -> str:
        """sha256 of who is where in all rounds."""
        found = [each.data.subjects().fingerprint for each in self.rounds]
        return found[0] if len(found) == 1 else digest(found)


class Results(FrozenModel):
    """What an experiment has come to, before it is told to anybody."""

    config: ExperimentConfig
    plan: Plan
    trained: dict[str, dict[str, Stage]]
    """{round: {model: its stage}}."""
    left_out: dict[str, str]
    """Models that do not apply, and why."""
    evidence: Stage
    memory: Stage | None = None

    @property
    def models(self) -> list[str]:
        """Those that were trained."""
        return list(self.trained[self.plan.first.name])

    @property
    def stages(self) -> dict[str, Stage]:
        """All stages by a name that a person understands."""
        data = self.plan.first.data
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


def plan(config: ExperimentConfig, extract: Stage, windows: Stage, split: Stage) -> Plan:
    """A round for each fold of the protocol; the models in service see everybody when every fold has been judged."""
    rounds = tuple(
        Round(
            name=fold["name"],
            repeat=fold["repeat"],
            fold=fold["fold"],
            config=config,
            data=Data(extract=extract, windows=windows, split=split, part=fold["part"]),
        )
        for fold in read_json(split.folder / "folds.json")
    )
    if not config.registry.register_models:
        return Plan(rounds=rounds, service=None)
    if len(rounds) == 1:
        return Plan(rounds=rounds, service=rounds[0])
    everybody = Data(extract=extract, windows=windows, split=split, part="service")
    return Plan(rounds=rounds, service=Round(name="service", config=config, data=everybody))


def replicated(plans: Sequence[Plan]) -> Plan:
    """The rounds of whole experiments that differ in their seeds; the first one's models go into service."""
    rounds = tuple(
        each.model_copy(update={"name": f"seed {each.config.seed}", "repeat": i})
        for i, one in enumerate(plans)
        for each in one.rounds
    )
    return Plan(rounds=rounds, service=rounds[0] if plans[0].service else None)
