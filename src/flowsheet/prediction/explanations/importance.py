"""Global importance: how much each concept moves a model's predictions."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.models.base import Model
from flowsheet.prediction.explanations.concepts import group_inputs, sum_by_concept
from flowsheet.windows.sequences import Sequences

IMPORTANCE: dict[str, pl.DataType] = {
    "label": pl.String(),
    "mean_absolute_contribution": pl.Float64(),  # log odds, by rows
    "share": pl.Float64(),  # of all concepts' together
    "concept": pl.String(),
    "kind": pl.String(),
    "rows": pl.Int64(),  # how many were explained
}
"""Columns of :func:`compute_importance`."""

SAMPLE_ROWS = 200
"""Rows that are explained; of more, a fixed sample."""


def compute_importance(model: Model, sequences: Sequences, rows: int = SAMPLE_ROWS) -> pl.DataFrame:
    """Mean absolute contribution of each concept over scored rows; columns ``IMPORTANCE``.

    The same sequences always give the same sample of rows.

    Args:
        model: A fitted model.
        sequences: Held-out stays, with the inputs of the model (scaled, if it wants that).
        rows: How many rows to explain, at most.
    """
    scored = np.flatnonzero(sequences.scored)
    if len(scored) > rows:
        scored = np.sort(np.random.default_rng(0).choice(scored, rows, replace=False))
    if not len(scored):
        return pl.DataFrame(schema=IMPORTANCE)
    concepts, of_input = group_inputs(sequences.features, sequences.history.shape[1])
    totals = model.explain(sequences, scored).totals
    means = np.abs(sum_by_concept(totals, of_input, len(concepts))).mean(axis=0)
    total = float(means.sum()) or 1.0
    columns = {
        "label": [concept.label for concept in concepts],
        "mean_absolute_contribution": means,
        "share": means / total,
        "concept": [concept.name for concept in concepts],
        "kind": [concept.kind for concept in concepts],
        "rows": [len(scored)] * len(concepts),
    }
    order = ["mean_absolute_contribution", "concept"]
    return pl.DataFrame(columns, schema=IMPORTANCE).sort(order, descending=[True, False])
