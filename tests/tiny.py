"""A minimal experiment."""

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
    """One logistic regression on a ward of ten stays, with changes."""
    return ExperimentConfig(
        name=name,
        description="sepsis on the next day",
        seed=3,
        cohort=CohortConfig(name="ward", source="simulated", options={"stays": 10}),
        task=TaskConfig(name="next_day"),
        features=FeaturesConfig(name="plain", aggregations=("last", "max")),
        models={"logistic": ModelConfig(kind="logistic_regression")},
        tuning=TuningConfig(name="quick"),
        evaluation=EvaluationConfig(name="holdout"),
        compute=ComputeConfig(name="small"),
    ).model_copy(update=changes)
