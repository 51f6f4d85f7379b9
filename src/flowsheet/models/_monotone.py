"""Which columns of a variable the risk may only rise, or only fall with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_LEVELS = r"(_(last|mean|min|max|average)(_[^:]*)?)?(:(mean|min|max)\d+)?"
"""What follows a variable's name in the columns that say how high it is or was: not in counts,
deviations, slopes, changes and times."""


def find_directions(
    columns: Sequence[str], rising: Iterable[str], falling: Iterable[str]
) -> list[int]:
    """1 (rising), -1 (falling) or 0 for each column.

    >>> columns = ["lact_last", "lact_max_24h", "lact_since", "lact_last:change4", "map_last"]
    >>> find_directions(columns, ["lact"], ["map"])
    [1, 1, 0, 0, -1]
    """
    direction = dict.fromkeys(rising, 1) | dict.fromkeys(falling, -1)
    patterns = {re.compile(re.escape(name) + _LEVELS): sign for name, sign in direction.items()}
    return [
        next((sign for pattern, sign in patterns.items() if pattern.fullmatch(column)), 0)
        for column in columns
    ]
