"""What each stay looks like from afar: one number a variable, from the windows that a model sees.

A profile has a line for each stay and property:

``value`` the mean, over the steps in which the variable arrives, of the step's mean. What the
    contract set aside as implausible makes a line of its own for the stay: a thermometer in degrees
    Fahrenheit is found there.
``presence``
    the share of the stay's steps in which a plausible value of the variable arrives.
``given``
    the share of the stay's steps in which the drug is given.
``person``
    what is known of the patient from the first hour; a category as 1 or 0.
``stay``
    the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.typing import Floats
from flowsheet.windows.build import build_sequences
from flowsheet.windows.sequences import FeatureKind, Sequences
from flowsheet.windows.statics import NUMERIC, Vocabulary

VERSION = 1
"""Raise it when the same records give other lines."""

PROFILE: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "kind": pl.String(),
    "of": pl.String(),
    "number": pl.Float64(),
}


def view(features: FeaturesConfig) -> FeaturesConfig:
    """The columns that a profile is made from: of the same variables, drugs and statics as the model's own."""
    return FeaturesConfig(
        name="profile",
        variables=features.variables,
        aggregations=("mean",),
        missing_indicators=True,
        hours_since_measured=False,
        treatments=features.treatments,
        treatment_columns=("on",),
        statics=tuple(dict.fromkeys((*features.statics, *NUMERIC))),
        time=False,
    )


def build_profile_sequences(  # noqa: PLR0917 - as build_sequences
    tables: Tables,
    task: TaskConfig,
    features: FeaturesConfig,
    variables: Sequence[str],
    drugs: Sequence[str],
    vocabulary: Vocabulary,
) -> Sequences:
    """The stays with the columns of :func:`view`."""
    return build_sequences(tables, task, view(features), variables, drugs, vocabulary)


def profile(sequences: Sequences) -> pl.DataFrame:
    """The lines of these stays, with the columns of ``PROFILE``; what nothing is known of has no line."""
    steps = sequences.lengths.astype(np.float64)
    parts = [_lines(sequences, "stay", "steps", steps)]
    for kind, column, of in _columns(sequences):
        x = sequences.x[:, column].astype(np.float64)
        if kind == "value":
            parts.append(_lines(sequences, kind, of, _per_stay(sequences, x)))
        elif kind == "presence":
            parts.append(_lines(sequences, kind, of, 1 - _per_stay(sequences, x)))
        elif kind == "given":
            parts.append(_lines(sequences, kind, of, _per_stay(sequences, x)))
        else:
            parts.append(_lines(sequences, kind, of, x[sequences.offsets[:-1]]))
    return pl.concat(parts)


def implausible(
    quarantine: pl.DataFrame, stays: pl.DataFrame, variables: Sequence[str]
) -> pl.DataFrame:
    """Lines of the kind ``value`` for what was set aside only because no living patient has such
    values.

    ``quarantine`` has the extract's columns for it, ``stays`` tells whose stay it was.
    """
    rows = quarantine.filter(table="events", rule="plausible_range").filter(
        pl.col("row").is_not_null()
    )
    told = rows.select(
        "stay_id",
        of=pl.col("row").str.json_path_match("$.variable"),
        number=pl.col("row").str.json_path_match("$.value").cast(pl.Float64, strict=False),
    )
    means = told.drop_nulls().filter(pl.col("of").is_in(list(variables)))
    means = means.group_by("stay_id", "of").agg(pl.col("number").mean()).sort("stay_id", "of")
    whose = means.join(
        stays.select("stay_id", "subject_id"), on="stay_id", how="inner", maintain_order="left"
    )
    return whose.with_columns(kind=pl.lit("value")).select(
        pl.col(name).cast(kind) for name, kind in PROFILE.items()
    )


_KINDS: dict[FeatureKind, str] = {
    "value": "value",
    "missing": "presence",
    "treatment": "given",
    "static": "person",
}


def _columns(sequences: Sequences) -> list[tuple[str, int, str]]:
    """(kind of line, column, what it is of)."""
    return [
        (_KINDS[feature.kind], i, feature.name if feature.kind == "static" else feature.source)
        for i, feature in enumerate(sequences.features)
        if feature.kind in _KINDS
    ]


def _per_stay(sequences: Sequences, x: Floats) -> Floats:
    """The mean of each stay's numbers (S,); NaN where it has none."""
    known = ~np.isnan(x)
    stay, size = sequences.row_stay[known], len(sequences)
    count = np.bincount(stay, minlength=size)
    total = np.bincount(stay, x[known], minlength=size)
    means: Floats = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return means


def _lines(sequences: Sequences, kind: str, of: str, numbers: Floats) -> pl.DataFrame:
    lines = {
        "stay_id": np.asarray(sequences.stay_id),
        "subject_id": np.asarray(sequences.subject_id),
        "kind": pl.repeat(kind, len(numbers), eager=True),
        "of": pl.repeat(of, len(numbers), eager=True),
        "number": numbers,
    }
    return pl.DataFrame(lines, schema=PROFILE).filter(pl.col("number").is_not_nan())
