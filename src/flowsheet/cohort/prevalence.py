"""How often the response is met, of all stays and told apart: what a reader wants before any score."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from flowsheet.cohort.extract import PrevalenceEntry

FIFTHS = 5
_UNKNOWN = "not told"


def mark_episodes(stays: pl.DataFrame, episodes: pl.DataFrame) -> pl.DataFrame:
    """Of each stay what :func:`prevalence` needs: stay_id, site, unit, admitted_at, episode."""
    found = pl.col("stay_id").is_in(episodes["stay_id"].unique().implode())
    return stays.select("stay_id", "site", "unit", "admitted_at", episode=found)


def prevalence(parts: Sequence[pl.DataFrame]) -> tuple[PrevalenceEntry, ...]:
    """Of all stays, by site, by care unit, and by fifth of the order of admission.

    Dates that are shifted per patient still put one patient's stays in order, and no more; where
    all stays are admitted at one moment there is no order to tell.

    >>> stays = pl.DataFrame({"stay_id": [1, 2], "site": ["A", None], "unit": ["MICU", "MICU"],
    ...                       "admitted_at": [0, 0], "episode": [True, False]})
    >>> [(e.by, e.group, e.stays, e.with_episode) for e in prevalence([stays])]
    [('all', 'all', 2, 1), ('site', 'A', 1, 1), ('site', 'not told', 1, 0), ('unit', 'MICU', 2, 1)]
    """
    if not parts:
        return ()
    stays = pl.concat(parts).with_columns(
        *(pl.col(column).fill_null(_UNKNOWN) for column in ("site", "unit")),
        pl.lit("all").alias("all"),
    )
    columns = ["all", "site", "unit"]
    if stays["admitted_at"].n_unique() > 1:
        place = pl.struct("admitted_at", "stay_id").rank("ordinal")
        fifth = ((place - 1) * FIFTHS // stays.height + 1).cast(pl.String)
        stays = stays.with_columns((fifth + pl.lit(f" of {FIFTHS}")).alias("admission order"))
        columns.append("admission order")
    return tuple(entry for column in columns for entry in _by(stays, column))


def _by(stays: pl.DataFrame, column: str) -> list[PrevalenceEntry]:
    counted = stays.group_by(column).agg(pl.len(), pl.col("episode").sum()).sort(column)
    return [
        PrevalenceEntry(by=column, group=group, stays=n, with_episode=septic)
        for group, n, septic in counted.rows()
    ]
