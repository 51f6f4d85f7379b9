"""Batches hold every row once, stays of similar length together, with little padding."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.models._batching import (
    POOL_BATCHES,
    Layout,
    column_packed,
    draw_batches,
    gather,
    last_scored_lengths,
    packed,
)
from tests.models.rows import stay_rows

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=150)
LAYOUTS = pytest.mark.parametrize("layout", [packed, column_packed])


@LAYOUTS
@given(LENGTHS)
@settings(max_examples=50)
def test_a_stays_rows_are_consecutive_and_separated_from_other_stays(
    layout: Layout, lengths: list[int]
) -> None:
    ordered = np.sort(np.array(lengths))[::-1]
    stay = np.repeat(np.arange(len(ordered)), ordered)
    step_of_stay = np.concatenate([np.arange(n) for n in ordered])
    position, batch_sizes = layout(ordered, stay, step_of_stay)
    assert all(size >= next_size > 0 for size, next_size in pairwise(batch_sizes))
    assert len(set(position.tolist())) == len(position) <= sum(batch_sizes)
    first_rows = np.cumsum([0, *batch_sizes[:-1]])
    step = np.searchsorted(first_rows, position, side="right") - 1
    column = position - first_rows[step]
    assert (column >= 0).all()
    assert (column < np.array(batch_sizes)[step]).all()
    for s in range(len(ordered)):
        assert len(set(column[stay == s])) == 1
        assert (np.diff(step[stay == s]) == 1).all()
    order = np.lexsort([step, column])
    is_same_column = np.diff(column[order]) == 0
    is_next_stay = np.diff(stay[order]) != 0
    separations = np.diff(step[order])[is_same_column & is_next_stay]
    assert (separations > 1).all()  # at least one padding row


@LAYOUTS
@given(LENGTHS)
@settings(max_examples=25)
def test_a_batch_holds_every_row_once_with_its_stay(layout: Layout, lengths: list[int]) -> None:
    rows = stay_rows(lengths)
    rows = replace(rows, weight=torch.ones_like(rows.weight))
    batch = gather(rows, np.arange(len(lengths)), layout)
    is_row = ~batch.padding
    assert torch.equal(batch.weight > 0, is_row)
    row_number = batch.x[is_row, 0]
    assert torch.equal(row_number.sort().values, rows.x[:, 0])
    assert torch.equal(batch.y[is_row], rows.y[row_number.long()])
    stay = np.argsort(-rows.lengths, kind="stable")[batch.stay[is_row].numpy()]
    expected = np.repeat(np.arange(len(lengths)), lengths)[row_number.long().numpy()]
    assert np.array_equal(stay, expected)


def test_there_is_little_padding_and_few_shapes() -> None:
    rng = np.random.default_rng(1)
    drawn = [np.sort(rng.gamma(3, 12, 64).astype(int) + 1).tolist() for _ in range(100)]
    batches = [gather(stay_rows(lengths), np.arange(64), column_packed) for lengths in drawn]
    rows = sum(len(batch.y) for batch in batches)
    assert rows < 1.1 * sum(map(sum, drawn))
    assert len({(len(batch.batch_sizes), batch.batch_sizes[0]) for batch in batches}) < 50
    for lengths in drawn[:5]:
        assert not gather(stay_rows(lengths), np.arange(64), packed).padding.any()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400), st.integers(1, 40))
def test_batches_hold_every_stay_with_rows_once(lengths: list[int], size: int) -> None:
    batches = draw_batches(np.array(lengths), size, torch.Generator().manual_seed(1))
    stays = np.concatenate(batches) if batches else np.array([])
    assert sorted(stays) == list(np.flatnonzero(lengths))
    assert sum(len(batch) < size for batch in batches) <= 1


def test_batches_hold_stays_of_similar_length_and_pools_are_random() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 64 * POOL_BATCHES * 5)
    batches = draw_batches(lengths, 64, torch.Generator().manual_seed(1))
    assert np.mean([lengths[batch].std() for batch in batches]) < 0.5 * lengths.std()
    pools = [batches[i : i + POOL_BATCHES] for i in range(0, len(batches), POOL_BATCHES)]
    mean_lengths = [np.mean(lengths[np.concatenate(pool)]) for pool in pools]
    assert np.std(mean_lengths) < 0.1 * lengths.std()


def test_rows_after_the_last_scored_one_are_left_out() -> None:
    scored = np.array([True, False, True, False, False, False, True])
    assert last_scored_lengths(np.array([0, 4, 6, 7]), scored).tolist() == [3, 0, 1]
    assert last_scored_lengths(np.array([0, 0]), np.array([], bool)).tolist() == [0]
