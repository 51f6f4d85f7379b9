import numpy as np
import pytest

from flowsheet.cohort.time_grid import HOUR
from flowsheet.config import TaskConfig
from flowsheet.testing.tables import table
from flowsheet.windows.grid import Grid


def make_grid(stays, **task):
    config = TaskConfig(name="t", **{"step_hours": 24, "horizon": 1, **task})
    return Grid.from_stays(table("stays", stays), config)


@pytest.mark.parametrize(("hours", "rows"), [(24, 1), (24.25, 2), (23.75, 1), (48, 2), (0.25, 1)])
def test_a_stay_has_a_row_for_every_step_that_it_reaches(hours, rows):
    assert make_grid([{"stay_id": 1, "discharged_at": hours}]).rows == rows


@pytest.mark.parametrize(
    ("observed_from", "first"), [(None, 1), (0, 1), (23.75, 1), (24, 2), (30, 2), (-3, 1)]
)
def test_the_first_row_is_the_step_in_which_the_record_starts(observed_from, first):
    grid = make_grid([{"stay_id": 1, "discharged_at": 60, "observed_from": observed_from}])
    assert grid.steps.tolist() == list(range(first, 4))


def test_max_steps_keeps_that_many_rows():
    stays = [
        {"stay_id": 1, "discharged_at": 200, "observed_from": 30},
        {"stay_id": 2, "discharged_at": 20},
    ]
    grid = make_grid(stays, max_steps=3)
    assert grid.steps.tolist() == [2, 3, 4, 1]
    assert grid.offsets.tolist() == [0, 3, 4]


def test_stays_are_sorted_and_stays_without_a_row_are_left_out():
    grid = make_grid(
        [
            {"stay_id": 9, "discharged_at": 24},
            {"stay_id": 2, "discharged_at": 0},
            {"stay_id": 1, "discharged_at": 5},
        ]
    )
    assert grid.stay_id.tolist() == [1, 9]
    assert grid.positions(np.array([9, 2, 1, 5, 100])).tolist() == [1, -1, 0, -1, -1]


def test_prediction_is_at_the_end_of_the_step_or_at_the_cut_off():
    stay = [{"stay_id": 1, "admitted_at": 3, "discharged_at": 40}]
    next_day = make_grid(stay)
    same_day = make_grid(stay, horizon=0, cutoff_hours=8)
    admitted = next_day.admitted[0]
    assert ((next_day.predicted_at - admitted) / HOUR).tolist() == [24, 48]
    assert ((same_day.predicted_at - admitted) / HOUR).tolist() == [8, 32]


@pytest.mark.parametrize(
    ("task", "hours", "cells"),
    [
        ({}, [-30, 0, 0.25, 24, 24.25, 48], [-1, 0, 1, 1, 2, 2]),
        (
            {"horizon": 0, "cutoff_hours": 8},
            [-30, 0, 8, 8.25, 24, 32, 32.25],
            [0, 1, 1, 2, 2, 2, 3],
        ),
    ],
)
def test_a_cell_excludes_its_start_and_includes_its_end(task, hours, cells):
    grid = make_grid([{"stay_id": 1, "discharged_at": 100}], **task)
    times = grid.admitted[0] + np.array([int(h * HOUR) for h in hours])
    assert grid.cell(np.zeros(len(times), int), times).tolist() == cells


def test_the_parts_of_a_split_together_are_the_whole_grid():
    grid = make_grid([{"stay_id": s, "discharged_at": 24 * s} for s in (1, 2, 3, 4)])
    parts = list(grid.split(rows=4))
    assert np.concatenate([part.stay_id for part, _ in parts]).tolist() == [1, 2, 3, 4]
    assert np.concatenate([part.steps for part, _ in parts]).tolist() == grid.steps.tolist()
    assert [rows.stop - rows.start for _, rows in parts] == [part.rows for part, _ in parts]
    assert len(parts) > 1


def test_a_grid_may_be_empty():
    empty = make_grid([])
    assert empty.rows == 0
    assert list(empty.split(10)) == []
    assert empty.positions(np.array([3])).tolist() == [-1]
