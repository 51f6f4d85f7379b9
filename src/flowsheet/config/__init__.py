"""The frozen, validated experiment: every choice that a run depends on, and nothing else."""

from flowsheet.config.base import Fraction, FrozenModel, Name, Scalar, Share
from flowsheet.config.cohort import CohortConfig, Policy, QuarantineConfig
from flowsheet.config.deployment import MonitoringConfig, PromotionConfig, RegistryConfig
from flowsheet.config.evaluation import EvaluationConfig, Protocol
from flowsheet.config.experiment import ComputeConfig, ExperimentConfig
from flowsheet.config.features import Aggregation, FeaturesConfig, TreatmentColumn
from flowsheet.config.memory_study import MemoryStudyConfig
from flowsheet.config.models import (
    CLOCK,
    FLOOR_MODELS,
    Choice,
    FloatRange,
    IntRange,
    ModelConfig,
    Range,
    Space,
    TuningConfig,
)
from flowsheet.config.task import Censor, EndAt, Target, TaskConfig
from flowsheet.config.validation import non_finite_keys, validate_config

__all__ = [
    "CLOCK",
    "FLOOR_MODELS",
    "Aggregation",
    "Censor",
    "Choice",
    "CohortConfig",
    "ComputeConfig",
    "EndAt",
    "EvaluationConfig",
    "ExperimentConfig",
    "FeaturesConfig",
    "FloatRange",
    "Fraction",
    "FrozenModel",
    "IntRange",
    "MemoryStudyConfig",
    "ModelConfig",
    "MonitoringConfig",
    "Name",
    "Policy",
    "PromotionConfig",
    "Protocol",
    "QuarantineConfig",
    "Range",
    "RegistryConfig",
    "Scalar",
    "Share",
    "Space",
    "Target",
    "TaskConfig",
    "TreatmentColumn",
    "TuningConfig",
    "non_finite_keys",
    "validate_config",
]
