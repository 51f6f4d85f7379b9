"""Whether explanations name the drug that made the risk rise, by the ground truth of the ward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from flowsheet.models.base import Model
from flowsheet.prediction.explanations.concepts import (
    TIME,
    Concept,
    group_inputs,
    sum_by_concept,
)
from flowsheet.typing import Floats, Ints
from flowsheet.windows.sequences import Sequences

LEAST_RISE = 0.5
"""Log odds that the true probability rises at least, from one step to the next."""
LEAST_SHARE = 0.5
"""Share of the rise that the direct effect of one drug makes at least."""


@dataclass(frozen=True)
class Rises:
    """Steps before which a drug raised the true probability."""

    rows: Ints  # (R,) the row after the rise; the row before it is the previous one
    drugs: list[str]
    """The drug that caused most of each rise."""


def find_rises(sequences: Sequences, oracle: Floats, effects: pl.DataFrame) -> Rises:
    """The rises from one step to the next that are mostly due to one drug.

    A drug also raises the risk when a protective effect of it ends.

    Args:
        sequences: Stays of the simulated ward, N rows.
        oracle: True log odds of each row (N,).
        effects: As ``compute_dose_effects`` returns them.
    """
    wide = effects.pivot("drug", index=["stay_id", "step"], values="effect")
    keys = pl.DataFrame({"stay_id": sequences.stay_id[sequences.row_stay], "step": sequences.step})
    by_row = keys.join(wide, on=["stay_id", "step"], how="left", maintain_order="left")
    by_drug = by_row.drop("stay_id", "step")
    values = by_drug.to_numpy()
    after = np.flatnonzero(sequences.step > sequences.step[sequences.offsets[sequences.row_stay]])
    rise = oracle[after] - oracle[after - 1]
    of_drug = values[after] - values[after - 1]
    is_due = (rise >= LEAST_RISE) & (of_drug.max(axis=1) >= LEAST_SHARE * rise)
    main = of_drug[is_due].argmax(axis=1)
    return Rises(after[is_due], [by_drug.columns[j] for j in main])


def rank_causes(model: Model, sequences: Sequences, rises: Rises) -> Ints:
    """The rank of the drug among all concepts in the model's explanation of each rise, (R,).

    ``sequences`` are those of :func:`find_rises` with the inputs of the model. 1: the explanation
    names the drug first.
    """
    rows = np.unique(np.concatenate([rises.rows - 1, rises.rows]))
    contributions = model.explain(sequences, rows)
    concepts, of_input = group_inputs(sequences.features, sequences.history.shape[1])
    totals = sum_by_concept(contributions.totals, of_input, len(concepts))
    totals = np.column_stack([totals, np.zeros(len(rows))])
    time = concepts.index(TIME) if TIME in concepts else len(concepts)
    totals[:, time] += contributions.baseline
    after = np.searchsorted(rows, rises.rows)
    changes = totals[after] - totals[after - 1]
    drug = [concepts.index(Concept(name, "drug")) for name in rises.drugs]
    own = changes[np.arange(len(drug)), drug]
    return np.asarray((changes > own[:, None]).sum(axis=1) + 1)
