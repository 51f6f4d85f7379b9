"""Which device a model is trained on."""

from __future__ import annotations

from flowsheet.config import ExperimentConfig, ModelConfig
from flowsheet.errors import UsageError
from flowsheet.models.base import MODELS


def resolve_device(config: ExperimentConfig, model: ModelConfig) -> str:
    """``cpu`` or ``cuda``, from ``compute.device`` and the model's capabilities.

    Raises:
        UsageError: compute.device=cuda, and there is no GPU.
    """
    device = config.compute.device
    if device == "cpu" or not MODELS.get(model.kind).capabilities.gpu:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError(
            "compute.device=cuda, but this machine has no GPU", todo="use compute.device=auto"
        )
    return "cpu"
