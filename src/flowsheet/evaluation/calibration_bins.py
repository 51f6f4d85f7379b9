"""The bins of calibration curves, and the observed frequency of each in the resamples."""

from __future__ import annotations

from functools import partial

import numpy as np

from flowsheet.evaluation.bootstrap import (
    ALL_RESAMPLES,
    ResamplePart,
    join_batches,
    resample_weights,
)
from flowsheet.evaluation.metrics.base import Sample, ScoredRows, safe_divide
from flowsheet.evaluation.metrics.ece import quantile_bins
from flowsheet.typing import AnyArray, Bools, Floats

CALIBRATION_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Deciles, with the highest one in three bins: where events are rare, the alerts lie there."""


def find_calibration_bins(scored: ScoredRows) -> list[Bools]:
    """The rows of each bin, shape (N,), by ascending probability."""
    bins = quantile_bins(scored.p, CALIBRATION_QUANTILES)
    return [bins == b for b in np.unique(bins)]


def resample_calibration(
    scored: ScoredRows, resamples: int, seed: int, part: ResamplePart = ALL_RESAMPLES
) -> list[Floats]:
    """The observed frequency of each bin in every resample, shape (B,) or those of the part.

    Args:
        scored: rows with their probabilities.
        resamples: B, the number of resamples of the subjects.
        seed: of the resamples.
        part: the resamples that are wanted.
    """
    masks = find_calibration_bins(scored)
    batches: list[list[Floats]] = [[] for _ in masks]

    def rows_of(number: int) -> Bools:
        return masks[number]

    def events_of(number: int) -> AnyArray:
        return masks[number] * scored.y

    for weights in resample_weights(scored.n_subjects, resamples, seed, part):
        sample = Sample(scored, weights)
        for number, bin_batches in enumerate(batches):
            n_events = sample.cached_sum(f"events of bin {number}", partial(events_of, number))
            n_rows = sample.cached_sum(f"rows of bin {number}", partial(rows_of, number))
            bin_batches.append(safe_divide(n_events, n_rows))
    return [join_batches(bin_batches) for bin_batches in batches]
