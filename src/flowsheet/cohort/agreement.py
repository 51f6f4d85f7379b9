"""How much the definitions of a response agree on the stays of a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from flowsheet.cohort.extract import AgreementEntry


def compare_definitions(parts: Sequence[pl.DataFrame]) -> tuple[AgreementEntry, ...]:
    """Compare each pair of definitions.

    Args:
        parts: Together one row per stay: stay_id, and for each definition a column with the time of
            the first onset, null for stays without one.

    >>> from datetime import datetime
    >>> onset = [datetime(2000, 1, 1, hour) for hour in (3, 4)]
    >>> stays = {"stay_id": [1, 2, 3, 4], "A": [*onset, None, None], "B": [onset[1], *3 * [None]]}
    >>> (entry,) = compare_definitions([pl.DataFrame(stays)])
    >>> entry.stays_with_definition, entry.stays_with_other, entry.stays_with_both, entry.kappa
    (2, 1, 1, 0.5)
    >>> entry.median_hours_later
    1.0
    """
    filled = [part for part in parts if part.width > 1]
    if not filled:
        return ()
    onsets = pl.concat(filled)
    names = [name for name in onsets.columns if name != "stay_id"]
    return tuple(_compare(onsets, first, second) for first, second in combinations(names, 2))


def _compare(onsets: pl.DataFrame, first: str, second: str) -> AgreementEntry:
    has_first, has_second = onsets[first].is_not_null(), onsets[second].is_not_null()
    both = onsets.filter(has_first & has_second)
    hours = both.select((pl.col(second) - pl.col(first)).dt.total_seconds() / 3600).to_series()
    median = hours.median()
    return AgreementEntry(
        definition=first,
        other=second,
        stays=onsets.height,
        stays_with_definition=int(has_first.sum()),
        stays_with_other=int(has_second.sum()),
        stays_with_both=both.height,
        kappa=_kappa(has_first, has_second),
        median_hours_later=None if median is None else round(float(str(median)), 2),
    )


def _kappa(first: pl.Series, second: pl.Series) -> float | None:
    """Cohen's kappa; null where both are constant and so agree by chance alone."""
    n = len(first)
    if not n:
        return None
    observed = int((first == second).sum()) / n
    share_first, share_second = int(first.sum()) / n, int(second.sum()) / n
    by_chance = share_first * share_second + (1 - share_first) * (1 - share_second)
    return None if by_chance == 1 else round((observed - by_chance) / (1 - by_chance), 3)
