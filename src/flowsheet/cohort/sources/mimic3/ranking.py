"""Rows in order of stay, moment and name, by one whole number that says all three.

To sort whole numbers is several times faster than to sort rows; only rows that share a number are
looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

NAMES = 512
"""More than there are names."""


def in_turn(
    rows: pl.DataFrame,
    by: tuple[str, str, str],
    ties: list[str],
    thin: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """The rows by the columns ``by``: the stay's number, the second, and the name's number (less
    than ``NAMES``).

    ``thin`` gets those that share all three, sorted by them and ``ties``, and leaves out whom it
    will.
    """
    stay, second, name = (
        rows[by[0]].cast(pl.Int64),
        rows[by[1]].dt.epoch("s"),
        rows[by[2]].cast(pl.Int64),
    )
    key = (((stay - stay.min()) * 2**32 + second - second.min()) * NAMES + name).to_numpy()
    at = np.argsort(key, kind="stable")  # much of it is in order already
    same = np.diff(key[at]) == 0
    shared = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    tied = rows[at[shared]].with_columns(_key=key[at[shared]], _at=at[shared])
    tied = tied.sort("_key", *ties).with_columns(_place=shared)
    at[shared] = tied["_at"]
    gone = np.setdiff1d(shared, thin(tied)["_place"], assume_unique=True)
    return rows[np.delete(at, gone)]


def as_before(*columns: str) -> pl.Expr:
    """Whether a row has the same cells as the row before."""
    return pl.all_horizontal(
        pl.col(column).eq_missing(pl.col(column).shift(1)) for column in columns
    )
