"""An experiment as small as one can be."""

from __future__ import annotations

from flowsheet.config import (
    CohortConfig,
    ComputeConfig,
    EvaluationConfig,
    ExperimentConfig,
    FeaturesConfig,
    ModelConfig,
    TaskConfig,
    TuningConfig,
)


def experiment(name: str, **changes: object) -> ExperimentConfig:
    """One logistic regression on a ward of ten stays, and what a test wants otherwise."""
    return ExperimentConfig(
        name=name,
        description="who is septic tomorrow",
        seed=3,
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 10}),
        task=TaskConfig(name="next_day"),
        features=FeaturesConfig(name="plain", aggregations=("last", "max")),
        models={"logistic": ModelConfig(kind="logistic_regression")},
        tuning=TuningConfig(name="quick"),
        evaluation=EvaluationConfig(name="holdout"),
        compute=ComputeConfig(name="small"),
    ).model_copy(update=changes)
