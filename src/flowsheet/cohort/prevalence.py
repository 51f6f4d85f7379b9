"""How many stays have an episode of each response: of all stays and of groups of stays."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from flowsheet.cohort.extract import PrevalenceEntry

FIFTHS = 5
_MISSING = "unknown"


def mark_episodes(stays: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """The columns that :func:`prevalence` needs; ``responses`` has those with an episode."""
    found = episodes.group_by("stay_id").agg(responses=pl.col("response").unique().sort())
    columns = stays.select("stay_id", "site", "unit", "admitted_at")
    return columns.join(found, on="stay_id", how="left", maintain_order="left")


def prevalence(
    parts: Sequence[pl.DataFrame], responses: Sequence[str]
) -> tuple[PrevalenceEntry, ...]:
    """Prevalence of each response: of all stays, by site, care unit, and fifth of the admissions.

    Dates that are shifted per patient still order the stays of one patient, but not the patients.
    Where all stays are admitted at the same moment there is no order, and no fifths.

    Args:
        parts: The results of :func:`mark_episodes`, together one row per stay.
        responses: Those to count.

    >>> stays = pl.DataFrame({"stay_id": [1, 2], "site": ["A", None], "unit": ["MICU", "MICU"],
    ...                       "admitted_at": [0, 0], "responses": [["aki", "sepsis"], None]})
    >>> for entry in prevalence([stays], ["sepsis"]):
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
    return tuple(
        entry
        for response in responses
        for column in columns
        for entry in _prevalence_by(stays, column, response)
    )


def _prevalence_by(stays: pl.DataFrame, column: str, response: str) -> list[PrevalenceEntry]:
    has_episode = pl.col("responses").list.contains(response).fill_null(value=False)
    counts = stays.group_by(column).agg(pl.len(), has_episode.sum().alias("n")).sort(column)
    return [
        PrevalenceEntry(
            by=column, group=group, stays=n, with_episode=with_episode, response=response
        )
        for group, n, with_episode in counts.rows()
    ]
