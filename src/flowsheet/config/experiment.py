"""One whole experiment, and the resources that it runs on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flowsheet.config.ablation import AblationConfig
from flowsheet.config.alerting import AlertingConfig
from flowsheet.config.base import FrozenModel, Name
from flowsheet.config.cohort import CohortConfig
from flowsheet.config.deployment import RegistryConfig
from flowsheet.config.evaluation import EvaluationConfig
from flowsheet.config.features import FeaturesConfig
from flowsheet.config.memory_study import MemoryStudyConfig
from flowsheet.config.models import ModelConfig, TuningConfig
from flowsheet.config.task import TaskConfig


class ComputeConfig(FrozenModel):
    """Where and how parallel to run; results do not depend on it, up to the order of sums in the
    trainings of several processes."""

    name: Name
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    """Models trained in parallel, a process each; with a pool: flow runs that tune one model
    together, which takes a database (``FLOWSHEET_OPTUNA_URL``)."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads a model, or of each process of its training."""
    processes_per_training: Annotated[int, Field(ge=1)] = 1
    """Processes that train one model together (trees and recurrent networks): on this machine, or
    with the runner dask on as many workers of the cluster. The figures agree with those of one
    process within a tolerance, and belong to this number."""
    runner: Literal["process", "dask", "ray"] = "process"
    """What starts the worker processes, where there is no pool."""
    pool: Literal["cpu", "gpu"] | None = None
    """The Prefect work pool that trains; None: worker processes of this run."""
    inputs: Literal["auto", "memory", "shards"] = "auto"
    """Where a training reads its inputs: decoded in memory, or from their compressed shards block
    by block; auto: in memory where that takes at most a quarter of it."""
    training_minutes: Annotated[float, Field(gt=0)] | None = None
    """Timeout of training one model in one fold; it then counts as failed."""
    run_minutes: Annotated[float, Field(gt=0)] | None = None
    """Timeout of the whole run."""
    pickup_minutes: Annotated[float, Field(gt=0)] = 10
    """With a pool: how long a training may wait while no worker of the pool is busy."""

    @model_validator(mode="after")
    def _check_processes(self) -> Self:
        if self.processes_per_training == 1:
            return self
        if self.pool or self.runner == "ray":
            place = f"the pool {self.pool}" if self.pool else "the runner ray"
            raise ValueError(
                f"processes_per_training={self.processes_per_training} does not go with {place}: "
                "use the runner process or dask, or 1"
            )
        if self.inputs == "memory":
            raise ValueError(
                f"inputs=memory does not go with processes_per_training="
                f"{self.processes_per_training}, whose processes read shards: use inputs=auto"
            )
        return self


class ExperimentConfig(FrozenModel):
    """One experiment, resolved: the same values give the same numbers."""

    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    cohort: CohortConfig
    task: TaskConfig
    features: FeaturesConfig
    models: dict[Name, ModelConfig] = Field(min_length=1)
    floor: bool = True
    """Whether the models of the lowest family were added to ``models``: prevalence, clock and
    bedside scores, which every other model should beat."""
    tuning: TuningConfig
    evaluation: EvaluationConfig
    alerting: AlertingConfig = AlertingConfig()
    compute: ComputeConfig
    registry: RegistryConfig = RegistryConfig()
    memory: MemoryStudyConfig | None = None
    ablation: AblationConfig | None = None
    """Which models are trained again with some of the inputs, to see what they read."""
