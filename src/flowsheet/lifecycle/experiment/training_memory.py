"""How much memory the training of one model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsheet.state.json_files import read_json

if TYPE_CHECKING:
    from flowsheet.lifecycle.experiment.train import FoldData

PROCESS_BYTES = 600_000_000
"""Of a process with its libraries; measured: 0.6 GB for a training on 600 stays."""
_COPIES = 4
"""The parts of the split, scaled, and a batch or lagged inputs of them."""
_VALUE_BYTES = 4


def training_memory(rows: int, columns: int) -> int:
    """Bytes that the process of one training on windows of that size takes at most."""
    return PROCESS_BYTES + _COPIES * rows * columns * _VALUE_BYTES


def estimate_training_memory(data: FoldData) -> int:
    """Bytes that the process of one training on these data takes at most."""
    summary = read_json(data.windows.folder / "summary.json")
    return training_memory(summary["rows"], summary["features"])
