"""The stays by other definitions of sepsis: how much the choice of a definition matters."""

from __future__ import annotations

import polars as pl

from flowsheet.cohort.sepsis3 import label
from flowsheet.cohort.sepsis3.conventions import CONVENTIONS
from flowsheet.cohort.sepsis3.frames import LabelInputs
from flowsheet.cohort.sepsis3.options import ADULT_SEPSIS_EVENT, Sepsis3Options

CHOSEN = "this cohort"
"""The name of the cohort's own definition."""


def other_definitions(chosen: Sepsis3Options) -> dict[str, Sepsis3Options]:
    """The named definitions that differ from the chosen one."""
    named = {
        name: Sepsis3Options.model_validate({"convention": name})
        for name in ("flowsheet", *CONVENTIONS)
    }
    named["sofa2"] = Sepsis3Options(score="sofa2")
    named[ADULT_SEPSIS_EVENT] = Sepsis3Options(definition="adult_sepsis_event")
    return {name: options for name, options in named.items() if options != chosen}


def first_onsets(
    inputs: LabelInputs, chosen: Sepsis3Options, episodes: pl.DataFrame
) -> pl.DataFrame:
    """Each stay's first onset by each definition: stay_id, and a column of times a definition.

    Args:
        inputs: The tables of the stays.
        chosen: The cohort's own definition.
        episodes: The episodes by it.
    """
    onsets = _add_first(inputs.stays.select("stay_id").sort("stay_id"), episodes, CHOSEN)
    for name, options in other_definitions(chosen).items():
        onsets = _add_first(onsets, label(inputs, options).episodes, name)
    return onsets


def _add_first(onsets: pl.DataFrame, episodes: pl.DataFrame, name: str) -> pl.DataFrame:
    first = episodes.group_by("stay_id").agg(pl.col("onset").min().alias(name))
    return onsets.join(first, on="stay_id", how="left", maintain_order="left")
