"""Rows for LightGBM in a group of processes: each has those of its stays, and all have one binning.

LightGBM by itself would choose the bins of each column on the rows of one process: a value that no
stay of that process has would be lost.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

from flowsheet.models._binned_rows import DENSE_ROWS
from flowsheet.models._rows import Rows
from flowsheet.typing import Ints

if TYPE_CHECKING:
    from flowsheet.models._group import Group


def own_positions(rows: Rows, group: Group | None) -> Ints:
    """The positions of this process's rows among all: those of every ``size``-th stay."""
    everything = np.arange(len(rows.y))
    if group is None:
        return everything
    stay = _stay_of(rows, everything)
    return np.flatnonzero(np.isin(stay, np.unique(stay)[group.part]))


def take_part(rows: Rows, group: Group | None) -> Rows:
    """This process's rows; without a group all."""
    return take_rows(rows, own_positions(rows, group)) if group else rows


def take_rows(rows: Rows, positions: Ints) -> Rows:
    """The rows at these ascending positions, and no other stays than theirs."""
    stay = _stay_of(rows, positions)
    stays = np.unique(stay)
    all_stays = rows.x.sequences
    sequences = all_stays.take(stays)
    first_rows = sequences.offsets[np.searchsorted(stays, stay)]
    taken = first_rows + rows.x.rows[positions] - all_stays.offsets[stay]
    x = replace(rows.x, sequences=sequences, rows=taken)
    return Rows(x, rows.y[positions], rows.subject[positions])


def choose_bins(rows: Rows, settings: dict[str, Any], group: Group) -> lightgbm.Dataset:
    """The bins of every column, chosen on the sample of all rows that one process would draw.

    Args:
        rows: All training rows.
        settings: LightGBM's parameters.
        group: Each process reads its part of the sample.
    """
    drawn = lightgbm.Dataset(None, params=settings)._create_sample_indices(total_nrow=len(rows.y))
    sample, count = np.sort(drawn), len(drawn)
    own = np.intersect1d(sample, own_positions(rows, group))
    x = group.gather_in_order(own, np.asarray(take_rows(rows, own).x))
    of_sample = settings | {
        # LightGBM leaves out columns that few rows could split, and knows the rows of the sample.
        "feature_pre_filter": count == len(rows.y),
        "is_enable_sparse": len(rows.y) < group.size * DENSE_ROWS,
    }
    return lightgbm.Dataset(x, np.zeros(count), params=of_sample, free_raw_data=True).construct()


@contextlib.contextmanager
def joined_boosters(group: Group | None) -> Iterator[dict[str, Any]]:
    """Parameters with which the boosters of a group train as one; none without a group.

    Raises:
        MemberLost: a connection between them was lost.
    """
    try:
        yield group.connect_lightgbm() if group else {}
    except lightgbm.basic.LightGBMError as error:
        if group and ("ocket" in str(error) or "onnect" in str(error)):
            raise group.lost(error) from error
        raise


def without_addresses(text: str) -> str:
    """LightGBM's text of trees, without where the processes were that have trained them.

    >>> without_addresses("[machines: 10.0.0.2:4000,10.0.0.3:4001]")
    '[machines: ]'
    """
    text = re.sub(r"(?m)^\[machines: .*\]$", "[machines: ]", text)
    return re.sub(r"(?m)^\[local_listen_port: .*\]$", "[local_listen_port: 12400]", text)


def _stay_of(rows: Rows, positions: Ints) -> Ints:
    return np.searchsorted(rows.x.sequences.offsets, rows.x.rows[positions], "right") - 1
