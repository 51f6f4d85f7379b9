"""Why the risk rose: the contributions at two steps of a stay, compared."""

from __future__ import annotations

import numpy as np
import polars as pl

from flowsheet.errors import UsageError
from flowsheet.prediction.explanations.concepts import TIME
from flowsheet.prediction.explanations.words import describe_contribution

RISE: dict[str, pl.DataType] = {
    "rank": pl.Int32(),  # 1: what raised the risk the most
    "concept": pl.String(),
    "kind": pl.String(),
    "label": pl.String(),
    "before": pl.Float64(),  # contribution at the earlier step, log odds
    "after": pl.Float64(),  # at the later step
    "change": pl.Float64(),
    "text": pl.String(),  # the fact at the later step, and the change
}
"""Columns of :func:`explain_rise`."""


def explain_rise(explanations: pl.DataFrame, stay_id: int, before: int, after: int) -> pl.DataFrame:
    """What changed the risk between two steps, the largest increase first; columns ``RISE``.

    The changes add up to the change of the log odds. A baseline that depends on how long the stay
    has lasted counts as time since admission.

    Args:
        explanations: All contributions at both steps, as ``explain`` returns them without ``top``.
        stay_id: The stay.
        before: The earlier step.
        after: The later step.

    Raises:
        UsageError: a step is not among the explanations.
    """
    of_stay = explanations.filter(stay_id=stay_id)
    steps = [_at_step(of_stay, stay_id, step) for step in (before, after)]
    keys = ["concept", "kind", "label"]
    columns = [
        frame.select(
            *keys, pl.col("contribution").alias(name), pl.col("text").alias(f"{name}_text")
        )
        for frame, name in zip(steps, ("before", "after"), strict=True)
    ]
    changes = (
        columns[0]
        .join(columns[1], on=keys, how="full", coalesce=True)
        .with_columns(pl.col("before", "after").fill_null(0.0))
        .with_columns(
            change=pl.col("after") - pl.col("before"),
            text=pl.coalesce("after_text", "before_text").str.replace(r": [+-][\d.,]+$", ""),
        )
        .filter(pl.col("change").abs() > 0)
        .sort(["change", "concept"], descending=[True, False])
    )
    texts = [
        describe_contribution(text, change)
        for text, change in changes.select("text", "change").iter_rows()
    ]
    rank = np.arange(1, changes.height + 1)
    return changes.with_columns(rank=rank, text=pl.Series(texts, dtype=pl.String)).select(
        pl.col(name).cast(kind) for name, kind in RISE.items()
    )


def _at_step(of_stay: pl.DataFrame, stay_id: int, step: int) -> pl.DataFrame:
    """The contributions at a step, the baseline among them as time since admission."""
    at_step = of_stay.filter(step=step)
    if at_step.is_empty():
        steps = of_stay["step"].unique().sort().to_list()
        explained = f"{steps[0]} to {steps[-1]}" if steps else "none"
        raise UsageError(
            f"step {step} of stay {stay_id} is not explained",
            where=f"explained steps: {explained}",
            todo="explain both steps of the comparison",
        )
    first = at_step.row(0, named=True)
    baseline = pl.DataFrame(
        {
            "concept": TIME.name,
            "kind": TIME.kind,
            "label": TIME.label,
            "contribution": first["baseline"],
            "text": "time since admission",
        }
    )
    together = pl.concat([at_step.select(baseline.columns), baseline])
    return together.group_by("concept", "kind", "label", maintain_order=True).agg(
        pl.col("contribution").sum(), pl.col("text").first()
    )
