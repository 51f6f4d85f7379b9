"""The frozen, validated experiment: every choice that a run depends on, and nothing else."""

from flowsheet.config.ablation import AblatedInputs, AblationConfig
from flowsheet.config.alerting import AlertingConfig, ThresholdBy
from flowsheet.config.base import Fraction, FrozenModel, Name, Scalar, Share
from flowsheet.config.cohort import CohortConfig, Policy, QuarantineConfig
from flowsheet.config.deployment import MonitoringConfig, PromotionConfig, RegistryConfig
from flowsheet.config.evaluation import EvaluationConfig, Protocol
from flowsheet.config.experiment import ComputeConfig, ExperimentConfig
from flowsheet.config.features import (
    Aggregation,
    Bound,
    FeaturesConfig,
    MovingAverage,
    PastConfig,
    PastWindow,
    TreatmentColumn,
    VariableSelection,
)
from flowsheet.config.memory_study import MemoryStudyConfig
from flowsheet.config.models import (
    CLOCK,
    FLOOR_MODELS,
    Choice,
    FloatRange,
    IntRange,
    LeaveOut,
    ModelConfig,
    Pruner,
    Range,
    Space,
    TuningConfig,
)
from flowsheet.config.roles import FEATURE_ROLES, FeatureRole, Roles, list_roles
from flowsheet.config.task import Censor, EndAt, Target, TaskConfig
from flowsheet.config.validation import non_finite_keys, validate_config

__all__ = [
    "CLOCK",
    "FEATURE_ROLES",
    "FLOOR_MODELS",
    "AblatedInputs",
    "AblationConfig",
    "Aggregation",
    "AlertingConfig",
    "Bound",
    "Censor",
    "Choice",
    "CohortConfig",
    "ComputeConfig",
    "EndAt",
    "EvaluationConfig",
    "ExperimentConfig",
    "FeatureRole",
    "FeaturesConfig",
    "FloatRange",
    "Fraction",
    "FrozenModel",
    "IntRange",
    "LeaveOut",
    "MemoryStudyConfig",
    "ModelConfig",
    "MonitoringConfig",
    "MovingAverage",
    "Name",
    "PastConfig",
    "PastWindow",
    "Policy",
    "PromotionConfig",
    "Protocol",
    "Pruner",
    "QuarantineConfig",
    "Range",
    "RegistryConfig",
    "Roles",
    "Scalar",
    "Share",
    "Space",
    "Target",
    "TaskConfig",
    "ThresholdBy",
    "TreatmentColumn",
    "TuningConfig",
    "VariableSelection",
    "list_roles",
    "non_finite_keys",
    "validate_config",
]
