"""The concepts of a clinician that the inputs of a model belong to.

A variable's values, whether it was measured, and how long ago, are one concept; so are all columns
about a variable's past, all columns of a drug, all categories of a static, the time since
admission, and all lags of the response. A derived number is one of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowsheet.cohort import catalogue
from flowsheet.models.base import Contributions
from flowsheet.typing import Floats, Ints
from flowsheet.windows.derived_features import label_derived
from flowsheet.windows.sequences import Feature

ConceptKind = Literal["variable", "course", "derived", "drug", "static", "time", "history"]

_KINDS: dict[str, ConceptKind] = {
    "value": "variable",
    "missing": "variable",
    "since": "variable",
    "window": "course",
    "so_far": "course",
    "average": "course",
    "change": "course",
    "bound": "course",
    "derived": "derived",
    "treatment": "drug",
    "static": "static",
    "time": "time",
}
_LABELS = {
    "hours": "time since admission",
    "unit": "care unit",
    "height_cm": "height",
    "weight_kg": "weight",
    "hours_in_hospital": "time in the hospital before admission",
    "admission_type": "admission",
}


@dataclass(frozen=True)
class Concept:
    """A variable, its course, a derived number, a drug, a static, the time, or the history."""

    name: str
    """The name in the catalogue, or the column of the stays."""
    kind: ConceptKind

    @property
    def label(self) -> str:
        """The name for readers.

        >>> Concept("lact", "variable").label, Concept("unit", "static").label
        ('lactate', 'care unit')
        >>> Concept("hr", "course").label, Concept("shock_index", "derived").label
        ('course of heart rate', 'shock index')
        """
        if self.kind == "variable" and self.name in catalogue.variables():
            return catalogue.variables()[self.name].label
        if self.kind == "drug" and self.name in catalogue.drugs():
            return catalogue.drugs()[self.name].label
        if self.kind == "course":
            return f"course of {Concept(self.name, 'variable').label}"
        if self.kind == "derived":
            return label_derived(self.name)
        return _LABELS.get(self.name, self.name.replace("_", " "))


TIME = Concept("hours", "time")
HISTORY = Concept("response history", "history")


def group_inputs(features: tuple[Feature, ...], lags: int) -> tuple[tuple[Concept, ...], Ints]:
    """The C concepts in the order of their first inputs, and the concept of each input (F + P,).

    >>> features = (Feature("hr_last", "value", "hr"), Feature("hr_missing", "missing", "hr"))
    >>> concepts, concept_of_input = group_inputs(features, lags=1)
    >>> [concept.name for concept in concepts], concept_of_input.tolist()
    (['hr', 'response history'], [0, 0, 1])
    """
    of_input = [Concept(feature.source, _KINDS[feature.kind]) for feature in features]
    of_input += [HISTORY] * lags
    concepts = tuple(dict.fromkeys(of_input))
    position = {concept: i for i, concept in enumerate(concepts)}
    return concepts, np.array([position[concept] for concept in of_input], np.int64)


def sum_by_concept(values: Floats, concept_of_input: Ints, concepts: int) -> Floats:
    """Contributions by concept (n, C) of contributions by input (n, F + P)."""
    sums = np.zeros((concepts, len(values)))
    np.add.at(sums, concept_of_input, values.T)
    return sums.T


def find_strongest_row(contributions: Contributions, of_concept: Floats, prediction: int) -> int:
    """The row whose inputs contribute the most to a prediction, of a concept's values (M,)."""
    lines = slice(*contributions.offsets[prediction : prediction + 2])
    # of equal ones the latest: that is the prediction's own row
    strongest = int(np.argmax(np.abs(of_concept[lines])[::-1]))
    return int(contributions.used_rows[lines][::-1][strongest])
