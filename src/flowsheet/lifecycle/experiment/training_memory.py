"""How much memory the training of one model takes, and where it reads its inputs from.

The rule: with ``compute.inputs: auto`` the inputs of the stays are decoded into memory where they
and the copies that a training makes of them take at most ``IN_MEMORY_SHARE`` of the usable memory.
Otherwise they stay in their compressed shards and are decoded block by block, as often as they are
read. The numbers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flowsheet.config import ComputeConfig
from flowsheet.models.base import MODELS, Model, count_processes
from flowsheet.state.json_files import read_json
from flowsheet.state.memory import usable_memory
from flowsheet.typing import Progress
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from flowsheet.lifecycle.experiment.train import FoldData

IN_MEMORY_SHARE = 0.25
"""Of the usable memory: two trainings side by side leave as much for everything else."""
PROCESS_BYTES = 600_000_000
"""Of a process with its libraries; measured: 0.6 GB for a training on 600 stays."""
_COPIES = 4
"""The training and validation stays, their selected columns, and a batch of them."""
_VALUE_BYTES = 4
_ROW_BYTES = 100
"""Of a row beside its inputs: target, marks, step and history (37 bytes, and a copy for the parts
of the split), and its number, weight and prediction."""


def fits_in_memory(rows: int, columns: int) -> bool:
    """Whether ``compute.inputs: auto`` decodes windows of that size into memory."""
    return _COPIES * rows * columns * _VALUE_BYTES <= IN_MEMORY_SHARE * usable_memory()


def is_in_memory(rows: int, columns: int, compute: ComputeConfig | None = None) -> bool:
    """Whether a training decodes windows of that size into memory."""
    inputs = compute.inputs if compute else "auto"
    return inputs == "memory" or (inputs == "auto" and fits_in_memory(rows, columns))


def place_inputs(
    parts: Sequence[Sequences], compute: ComputeConfig, progress: Progress
) -> list[Sequences]:
    """The stays with their inputs in memory or in shards, as configured or as they fit."""
    rows = sum(part.rows for part in parts)
    columns = parts[0].x.shape[1]
    if is_in_memory(rows, columns, compute):
        return [part.in_memory() for part in parts]
    progress(
        f"inputs are read from their shards: {rows:,} rows x {columns:,} columns would take "
        f"{rows * columns * _VALUE_BYTES / 1e9:.1f} GB of memory"
    )
    return list(parts)


def training_memory(
    rows: int,
    columns: int,
    filled: int,
    compute: ComputeConfig | None = None,
    kinds: Iterable[str] = (),
) -> int:
    """Bytes that one training takes at most on this machine.

    Args:
        rows: Rows of the windows.
        columns: Columns of the windows.
        filled: Those of them that have values; the others are left out of a fit.
        compute: How the training runs; None: with the defaults.
        kinds: The registered models that it may train.
    """
    in_group = [kind for kind in kinds if compute and count_processes(compute, kind) > 1]
    if compute and in_group:
        others = [kind for kind in kinds if kind not in in_group]
        alone = training_memory(rows, columns, filled, compute, others) if others else 0
        return max(alone, _group_memory(rows, filled, compute, in_group))
    models = [MODELS.get(kind) for kind in kinds]
    if is_in_memory(rows, columns, compute):
        decoded = _COPIES * rows * columns * _VALUE_BYTES
    else:
        decoded = filled * max((m.block_bytes for m in models), default=Model.block_bytes)
    kept_bytes = max((m.kept_bytes for m in models), default=Model.kept_bytes)
    kept = round(kept_bytes * rows * filled) + _ROW_BYTES * rows
    return PROCESS_BYTES + decoded + kept


def _group_memory(rows: int, filled: int, compute: ComputeConfig, kinds: Iterable[str]) -> int:
    """Bytes of the process that leads a group, and of the members on its machine.

    On a cluster the members run beside the workers, see :func:`estimate_member_memory`.
    """
    leader = _leader_memory(rows, filled, kinds)
    if compute.runner != "process":
        return leader
    size = compute.processes_per_training
    return leader + size * _member_memory(rows, filled, size, kinds)


def _leader_memory(rows: int, filled: int, kinds: Iterable[str]) -> int:
    blocks = filled * max(MODELS.get(kind).block_bytes for kind in kinds)
    return PROCESS_BYTES + _ROW_BYTES * rows + blocks


def _member_memory(rows: int, filled: int, size: int, kinds: Iterable[str]) -> int:
    """All members know the rows, and each keeps its part of the inputs."""
    kept = max(MODELS.get(kind).kept_bytes for kind in kinds) * rows * filled / size
    return _leader_memory(rows, filled, kinds) + round(kept)


def estimate_training_memory(
    data: FoldData, compute: ComputeConfig | None = None, kinds: Iterable[str] = ()
) -> int:
    """Bytes that one training on these data takes at most on this machine.

    Args:
        data: The windows.
        compute: How the training runs; None: with the defaults.
        kinds: The registered models that it may train.
    """
    return training_memory(*_read_sizes(data), compute, kinds)


def estimate_member_memory(data: FoldData, compute: ComputeConfig, kinds: Iterable[str]) -> int:
    """Bytes of the largest process that a group of a cluster runs beside a worker.

    Args:
        data: The windows.
        compute: How the trainings run.
        kinds: All models that are trained on the cluster: a worker has a member of one group at a
            time, be that of its own training or of another worker's.
    """
    if compute.runner == "process":
        return 0
    in_groups = [kind for kind in kinds if count_processes(compute, kind) > 1]
    rows, _, filled = _read_sizes(data)
    size = compute.processes_per_training
    return _member_memory(rows, filled, size, in_groups) if in_groups else 0


def _read_sizes(data: FoldData) -> tuple[int, int, int]:
    """Rows and columns of the windows, and the columns with values."""
    summary = read_json(data.windows.folder / "summary.json")
    columns = summary["features"]
    return summary["rows"], columns, columns - len(summary["empty_columns"])
