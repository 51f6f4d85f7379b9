"""What a GPU has no memory for, said so that the user can ask for less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from flowsheet.errors import GpuMemoryError


@contextlib.contextmanager
def explained_gpu_memory(asked: str) -> Iterator[None]:
    """Explain that the GPU runs out of memory in the block.

    Args:
        asked: the batches and the units of the network.

    Raises:
        GpuMemoryError: it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        # "CUDA out of memory. Tried to allocate A. GPU 0 has a total capacity of B of which C is
        # free. ...", with advice about torch's allocator
        sentences = str(error).split(". ")[1:3]
        raise GpuMemoryError(
            f"the GPU has not the memory for {asked}",
            where=". ".join(sentences).rstrip(".") or "CUDA out of memory",
            todo="use a smaller batch_size or fewer hidden units (models.<name>.params, and "
            "models.<name>.space for what is tuned), a GPU that nothing else uses, or "
            "compute.device=cpu; finished trials are kept",
        ) from error
