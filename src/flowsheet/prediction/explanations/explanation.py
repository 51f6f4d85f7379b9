"""Explanations of a package's predictions, one row for each prediction and concept."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from flowsheet.cohort.schema import TIME, Tables
from flowsheet.models.base import Contributions
from flowsheet.prediction.explanations.concepts import (
    Concept,
    find_strongest_row,
    group_inputs,
    sum_by_concept,
)
from flowsheet.prediction.explanations.facts import RecordedFacts
from flowsheet.prediction.explanations.words import (
    Fact,
    Moment,
    describe_contribution,
    describe_fact,
)
from flowsheet.typing import Bools, Floats, Ints
from flowsheet.windows.sequences import Sequences

if TYPE_CHECKING:
    from flowsheet.prediction.model_package import ModelInputs, ModelPackage

Steps = Literal["last", "all"] | Collection[int]
"""The steps that are explained: the last one of each stay, all, or these."""

EXPLANATIONS: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "time": TIME,  # when the prediction is made
    "step": pl.Int32(),
    "risk": pl.Float64(),
    "log_odds": pl.Float64(),  # of the risk: the baseline and all contributions
    "baseline": pl.Float64(),  # log odds of the reference inputs
    "rank": pl.Int32(),  # 1: the largest contribution, whatever its sign
    "concept": pl.String(),  # a name of the catalogue, or a column of the stays
    "kind": pl.String(),  # variable, course, derived, drug, static, time or history
    "label": pl.String(),
    "contribution": pl.Float64(),  # log odds
    "value": pl.Float64(),  # the recorded value or dose; null: not measured, not given
    "unit": pl.String(),
    "hours_ago": pl.Float64(),  # from the measurement, or from the end of the dose
    "text": pl.String(),  # the fact and its contribution in words
}
"""Columns of :func:`explain`."""

SMALLEST = 1e-9
"""Contributions that are not larger are left out, unless a prediction has no others."""


def explain(
    package: ModelPackage, tables: Tables, steps: Steps = "last", top: int | None = None
) -> pl.DataFrame:
    """What adds to the risks, by stay, step and rank; columns ``EXPLANATIONS``.

    Args:
        package: The model.
        tables: The extract's tables, for one or many stays.
        steps: Which predictions to explain.
        top: Contributions of each prediction, the largest ones; None: all that are not 0.
    """
    inputs = package.build_inputs(tables)
    rows = _select_rows(inputs.raw, steps)
    if not len(rows):
        return pl.DataFrame(schema=EXPLANATIONS)
    contributions = package.model.explain(inputs.scaled, rows)
    return _Describer(tables, inputs, contributions).describe(top)


def _select_rows(sequences: Sequences, steps: Steps) -> Ints:
    if isinstance(steps, str):
        return sequences.offsets[1:] - 1 if steps == "last" else np.arange(sequences.rows)
    return np.flatnonzero(np.isin(sequences.step, sorted(steps)))


class _Describer:
    """Ranks contributions and puts them into words."""

    def __init__(self, tables: Tables, inputs: ModelInputs, contributions: Contributions) -> None:
        self.raw, self.contributions = inputs.raw, contributions
        raw = inputs.raw
        self.concepts, of_input = group_inputs(raw.features, raw.history.shape[1])
        self.concept_of_input = of_input
        self.by_concept = sum_by_concept(contributions.values, of_input, len(self.concepts))
        self.totals = np.add.reduceat(self.by_concept, contributions.offsets[:-1], axis=0)
        self.stay_id: Ints = raw.stay_id[raw.row_stay]
        self.predicted_at = inputs.predicted_at
        self.facts = RecordedFacts(tables, self.stay_id[contributions.rows])
        self.known_values = _known_values(raw)

    def describe(self, top: int | None) -> pl.DataFrame:
        """The frame of :func:`explain`."""
        parts: list[dict[str, Any]] = []
        log_odds = self.contributions.log_odds
        risks = 1 / (1 + np.exp(-log_odds))
        for i, row in enumerate(self.contributions.rows.tolist()):
            prediction = {
                "stay_id": int(self.stay_id[row]),
                "time": self.predicted_at[row],
                "step": int(self.raw.step[row]),
                "risk": risks[i],
                "log_odds": log_odds[i],
                "baseline": self.contributions.baseline[i],
            }
            for rank, j in enumerate(_rank(self.totals[i], top), 1):
                parts.append({**prediction, "rank": rank, **self._describe_concept(i, row, j)})
        types = {**EXPLANATIONS, "time": pl.Int64()}
        return pl.DataFrame(parts, schema=types).with_columns(pl.col("time").cast(TIME))

    def _describe_concept(self, i: int, row: int, j: int) -> dict[str, Any]:
        concept, contribution = self.concepts[j], float(self.totals[i, j])
        fact = self._find_fact(concept, i, row, j)
        return {
            "concept": concept.name,
            "kind": concept.kind,
            "label": concept.label,
            "contribution": contribution,
            "value": fact.value,
            "unit": fact.unit,
            "hours_ago": fact.hours_ago,
            "text": describe_contribution(fact.text, contribution),
        }

    def _find_fact(self, concept: Concept, i: int, row: int, j: int) -> Fact:
        source, column, value = row, "", math.nan
        if concept.kind in ("variable", "course", "derived", "drug"):
            source = find_strongest_row(self.contributions, self.by_concept[:, j], i)
        if concept.kind in ("course", "derived"):
            strongest = self._find_strongest_input(i, j)
            column = self.raw.features[strongest].label
            value = float(self.raw.x[source, strongest])
        known = self.known_values.get(concept)
        moment = Moment(
            stay_id=int(self.stay_id[row]),
            time=int(self.predicted_at[row]),
            row_time=int(self.predicted_at[source]),
            history=self.raw.history[row],
            is_value_known=known is None or bool(known[source]),
            column=column,
            column_value=value,
        )
        return describe_fact(concept, self.facts, moment)

    def _find_strongest_input(self, i: int, j: int) -> int:
        """The input of concept j that adds the most to prediction i, over all used rows."""
        inputs = np.flatnonzero(self.concept_of_input == j)
        lines = slice(*self.contributions.offsets[i : i + 2])
        totals = self.contributions.values[lines][:, inputs].sum(axis=0)
        return int(inputs[np.argmax(np.abs(totals))])


def _rank(totals: Floats, top: int | None) -> list[int]:
    """The positions of the largest contributions, by size; one at least, and no others of 0."""
    order = np.argsort(-np.abs(totals), kind="stable")
    count = max(1, int(np.sum(np.abs(totals) > SMALLEST)))
    return [int(j) for j in order[:count][:top]]


def _known_values(raw: Sequences) -> dict[Concept, Bools]:
    """For each variable with value columns, the rows in which any of them is known, (N,)."""
    known: dict[Concept, Bools] = {}
    for j in raw.columns("value"):
        concept = Concept(raw.features[j].source, "variable")
        is_known = ~np.isnan(raw.x[:, j])
        known[concept] = known[concept] | is_known if concept in known else is_known
    return known
