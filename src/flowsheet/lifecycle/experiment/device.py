"""Which device a model is trained on."""

from __future__ import annotations

from flowsheet.config import ComputeConfig, ExperimentConfig, ModelConfig
from flowsheet.errors import UsageError
from flowsheet.models.base import MODELS, count_processes


def resolve_device(config: ExperimentConfig, model: ModelConfig) -> str:
    """``cpu`` or ``cuda``, from ``compute.device`` and the model's capabilities.

    Raises:
        UsageError: compute.device=cuda, and there is no GPU, or there are fewer than processes that
            train the model together.
    """
    device = config.compute.device
    if device == "cpu" or not MODELS.get(model.kind).capabilities.gpu:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        _check_gpus(config.compute, model.kind, torch.cuda.device_count())
        return "cuda"
    if device == "cuda":
        raise UsageError(
            "compute.device=cuda, but this machine has no GPU", todo="use compute.device=auto"
        )
    return "cpu"


def _check_gpus(compute: ComputeConfig, kind: str, gpus: int) -> None:
    """Check that each process of a group on this machine has a GPU of its own."""
    processes = count_processes(compute, kind)
    if compute.runner == "process" and gpus < processes:
        raise UsageError(
            f"{processes} processes that train {kind} together need a GPU each, and this machine "
            f"has {gpus}",
            where=f"compute.processes_per_training={processes}",
            todo=f"use compute.device=cpu, or compute.processes_per_training={gpus}",
        )
