"""A profile of stays: one number for each stay and property, from the windows that a model sees.

The properties are of five kinds:

``measured_value``
    mean, over the steps in which the variable is measured, of the step's mean. Values that
    ingestion quarantined as implausible make separate rows: a temperature that was recorded in
    degrees Fahrenheit shows there.
``measurement_rate``
    share of the stay's steps in which a plausible value of the variable arrives.
``treatment_exposure``
    share of the stay's steps in which the drug is given.
``demographics``
    attributes of the patient that are known from the first hour; categories as 1 or 0.
``length_of_stay``
    number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl

from flowsheet.cohort.schema import Tables
from flowsheet.config import FeaturesConfig, TaskConfig
from flowsheet.typing import Floats
from flowsheet.windows.build import build_sequences
from flowsheet.windows.sequences import FeatureKind, Sequences
from flowsheet.windows.statics import NUMERIC, Vocabulary

PROFILE_VERSION = 2
"""Raise it when the same records give another profile."""

PropertyKind = Literal[
    "measured_value",
    "measurement_rate",
    "treatment_exposure",
    "demographics",
    "length_of_stay",
    "risk",
    "performance",
]
"""Kinds of properties that are compared: those of a profile, the model's risks, its performance."""

PROFILE_SCHEMA: dict[str, pl.DataType] = {
    "stay_id": pl.Int64(),
    "subject_id": pl.Int64(),
    "kind": pl.String(),
    "name": pl.String(),
    "value": pl.Float64(),
}

_KINDS: dict[FeatureKind, PropertyKind] = {
    "value": "measured_value",
    "missing": "measurement_rate",
    "treatment": "treatment_exposure",
    "static": "demographics",
}
"""Kind of property that is computed from a kind of feature."""


def profile_features(features: FeaturesConfig) -> FeaturesConfig:
    """The features of a profile: the model's variables, drugs and statics, not aggregated."""
    return FeaturesConfig(
        name="profile",
        variables=features.variables,
        variable_kinds=features.variable_kinds,
        aggregations=("mean",),
        missing_indicators=True,
        hours_since_measured=False,
        treatments=features.treatments,
        excluded_treatment_groups=features.excluded_treatment_groups,
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
    """Build the sequences from which a profile is computed.

    Args:
        tables: the tables of a cohort extract, or of a part of its stays.
        task: the model's task, which defines the steps.
        features: the model's features; see :func:`profile_features`.
        variables: variables of the extract on which the model was trained.
        drugs: drugs of that extract.
        vocabulary: categories of the static features.
    """
    return build_sequences(tables, task, profile_features(features), variables, drugs, vocabulary)


def compute_profile(sequences: Sequences) -> pl.DataFrame:
    """Profile (``PROFILE_SCHEMA``) of stays; unknown values have no row.

    ``sequences`` come from :func:`build_profile_sequences`.
    """
    steps = sequences.lengths.astype(np.float64)
    parts = [_property_rows(sequences, "length_of_stay", "steps", steps)]
    for kind, name, column in _list_properties(sequences):
        x = sequences.x[:, column].astype(np.float64)
        if kind == "demographics":
            values = x[sequences.offsets[:-1]]
        elif kind == "measurement_rate":
            values = 1 - _mean_per_stay(sequences, x)
        else:
            values = _mean_per_stay(sequences, x)
        parts.append(_property_rows(sequences, kind, name, values))
    return pl.concat(parts)


def profile_implausible_values(
    quarantine: pl.DataFrame, stays: pl.DataFrame, variables: Sequence[str]
) -> pl.DataFrame:
    """Profile of the values that were quarantined only because they are implausible.

    Args:
        quarantine: the quarantine table of a cohort extract.
        stays: the extract's stays, with ``stay_id`` and ``subject_id``.
        variables: names of the variables to include.

    Returns:
        Rows (``PROFILE_SCHEMA``) of the kind ``measured_value``: one for each stay and variable.
    """
    implausible = quarantine.filter(
        pl.col("row").is_not_null(), table="events", rule="plausible_range"
    )
    values = implausible.select(
        "stay_id",
        name=pl.col("row").str.json_path_match("$.variable"),
        value=pl.col("row").str.json_path_match("$.value").cast(pl.Float64, strict=False),
    )
    values = values.drop_nulls().filter(pl.col("name").is_in(list(variables)))
    grouped = values.group_by("stay_id", "name", maintain_order=True).agg("value")
    # the mean of a list sums in its order; the mean of a group in the order of polars' threads
    means = grouped.with_columns(pl.col("value").list.mean()).sort("stay_id", "name")
    subjects = stays.select("stay_id", "subject_id")
    rows = means.join(subjects, on="stay_id", how="inner", maintain_order="left")
    rows = rows.with_columns(kind=pl.lit("measured_value"))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in PROFILE_SCHEMA.items())


def _list_properties(sequences: Sequences) -> Iterator[tuple[PropertyKind, str, int]]:
    """(kind, name, column of x) of the properties that are computed from features."""
    for column, feature in enumerate(sequences.features):
        if feature.kind in _KINDS:
            name = feature.name if feature.kind == "static" else feature.source
            yield _KINDS[feature.kind], name, column


def _mean_per_stay(sequences: Sequences, x: Floats) -> Floats:
    """Mean (S,) of a column's known values (N,) in each stay; NaN where none is known."""
    known = ~np.isnan(x)
    stay = sequences.row_stay[known]
    size = len(sequences)
    count = np.bincount(stay, minlength=size)
    total = np.bincount(stay, x[known], minlength=size)
    means: Floats = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
    return means


def _property_rows(
    sequences: Sequences, kind: PropertyKind, name: str, values: Floats
) -> pl.DataFrame:
    rows = {
        "stay_id": np.asarray(sequences.stay_id),
        "subject_id": np.asarray(sequences.subject_id),
        "kind": pl.repeat(kind, len(values), eager=True),
        "name": pl.repeat(name, len(values), eager=True),
        "value": values,
    }
    return pl.DataFrame(rows, schema=PROFILE_SCHEMA).filter(pl.col("value").is_not_nan())
