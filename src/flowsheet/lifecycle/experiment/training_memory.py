"""How much memory the training of one model takes."""

from __future__ import annotations

from flowsheet.lifecycle.experiment.train import FoldData

_PROCESS_BYTES = 600_000_000
"""Of a process with its libraries; measured: 0.6 GB for a training on 600 stays."""
_COPIES = 4
"""The parts of the split, scaled, and a batch or lagged inputs of them."""


def estimate_training_memory(data: FoldData) -> int:
    """Bytes that the process of one training takes at most, estimated from its sequences."""
    folder = data.windows.folder / "sequences"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return _PROCESS_BYTES + _COPIES * size
