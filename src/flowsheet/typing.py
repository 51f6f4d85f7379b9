"""Names of types that many modules use: arrays by dtype, and the callback for progress.

Shapes are given beside the fields and arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
AnyFloats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]
Labels = NDArray[np.int8]
"""0 or 1 a row."""
Bools = NDArray[np.bool_]
Times = NDArray[np.datetime64]
AnyArray = NDArray[Any]

Progress = Callable[[str], None]
"""Receives one line of progress at a time."""
