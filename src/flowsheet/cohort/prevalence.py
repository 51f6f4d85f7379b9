"""How many stays have an episode of the response: of all stays and of groups of stays."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from flowsheet.cohort.extract import PrevalenceEntry

FIFTHS = 5
_MISSING = "unknown"


def mark_episodes(stays: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """The columns that :func:`prevalence` needs; ``episode`` is true for stays with an episode."""
    has_episode = pl.col("stay_id").is_in(episodes["stay_id"].unique().implode())
    return stays.select("stay_id", "site", "unit", "admitted_at", episode=has_episode)


def prevalence(parts: Sequence[pl.DataFrame]) -> tuple[PrevalenceEntry, ...]:
    """Prevalence of all stays, by site, by care unit, and by fifth of the order of admission.

    Dates that are shifted per patient still order the stays of one patient, but not the patients.
    Where all stays are admitted at the same moment there is no order, and no fifths.

    Args:
        parts: The results of :func:`mark_episodes`, together one row per stay.

    >>> stays = pl.DataFrame({"stay_id": [1, 2], "site": ["A", None], "unit": ["MICU", "MICU"],
    ...                       "admitted_at": [0, 0], "episode": [True, False]})
    >>> for entry in prevalence([stays]):
    ...     print(entry.by, entry.group, entry.stays, entry.with_episode, sep=", ")
    all, all, 2, 1
    site, A, 1, 1
    site, unknown, 1, 0
    unit, MICU, 2, 1
    """
    if not parts:
        return ()
    stays = pl.concat(parts).with_columns(
        pl.col("site", "unit").fill_null(_MISSING), pl.lit("all").alias("all")
    )
    columns = ["all", "site", "unit"]
    if stays["admitted_at"].n_unique() > 1:
        rank = pl.struct("admitted_at", "stay_id").rank("ordinal")
        fifth = ((rank - 1) * FIFTHS // stays.height + 1).cast(pl.String)
        stays = stays.with_columns((fifth + pl.lit(f" of {FIFTHS}")).alias("admission order"))
        columns.append("admission order")
    return tuple(entry for column in columns for entry in _prevalence_by(stays, column))


def _prevalence_by(stays: pl.DataFrame, column: str) -> list[PrevalenceEntry]:
    counts = stays.group_by(column).agg(pl.len(), pl.col("episode").sum()).sort(column)
    return [
        PrevalenceEntry(by=column, group=group, stays=n, with_episode=with_episode)
        for group, n, with_episode in counts.rows()
    ]
