"""The tables contain exactly what happened in the simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flowsheet.cohort.sources.simulated import SimulatedWard
from flowsheet.cohort.sources.simulated.data_generating_process import WardOptions
from flowsheet.cohort.sources.simulated.dynamics import draw_patients, simulate_trajectory
from tests.cohort.sources.simulated.conftest import SHORT_STAYS, collect_tables, make_ward


@pytest.mark.parametrize("step_hours", [1, 6, 24])
def test_episodes_overlap_exactly_the_septic_steps(step_hours: int):
    options = WardOptions(stays=500, step_hours=step_hours, **SHORT_STAYS)
    patients = draw_patients(options, 0)
    trajectory = simulate_trajectory(options, patients, 0)
    tables = collect_tables(SimulatedWard(None, options))
    position = pl.DataFrame(
        {"stay_id": patients.stay_id, "row": np.arange(500), "steps": patients.steps}
    )
    admissions = tables["stays"].select("stay_id", "admitted_at")
    minutes = (pl.col("onset", "end", "known_at") - pl.col("admitted_at")).dt.total_minutes()
    episodes = (
        tables["episodes"]
        .join(position, on="stay_id")
        .join(admissions, on="stay_id")
        .with_columns(minutes / 60 / step_hours)
    )
    overlapped = np.zeros_like(trajectory.y)
    for row, onset, end, steps in episodes.select("row", "onset", "end", "steps").iter_rows():
        k = np.arange(1, steps + 1)
        end_or_never = np.inf if end is None else end
        overlapped[row, :steps] |= (onset <= k) & (end_or_never > k - 1)
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    np.testing.assert_array_equal(overlapped, trajectory.y & in_stay)
    end_of_first_step = episodes["onset"].ceil()
    assert (end_of_first_step != episodes["onset"]).all()
    assert (episodes["known_at"] == end_of_first_step).all()


def test_an_episode_is_known_after_the_declared_delay():
    without = collect_tables(make_ward(stays=50))["episodes"]
    delayed = collect_tables(make_ward(stays=50, known_delay_hours=30))["episodes"]
    assert_frame_equal(without.drop("known_at"), delayed.drop("known_at"))
    assert ((delayed["known_at"] - without["known_at"]).dt.total_hours() == 30).all()


def test_treatments_contain_the_simulated_doses():
    options = WardOptions(stays=500, **SHORT_STAYS)
    patients = draw_patients(options, 0)
    doses = simulate_trajectory(options, patients, 0).doses
    tables = collect_tables(SimulatedWard(None, options))
    treatments = tables["treatments"].join(
        tables["stays"].select("stay_id", "admitted_at"), on="stay_id"
    )
    hours = (treatments["end"] - treatments["start"]).dt.total_minutes().to_numpy() / 60
    amount = treatments["dose"].to_numpy() * np.where(hours > 0, hours, 1)
    start, end = (
        (treatments[name] - treatments["admitted_at"]).dt.total_minutes().to_numpy()
        for name in ("start", "end")
    )
    step = (start - 1) // (24 * 60)
    np.testing.assert_array_equal(step, (end - 1) // (24 * 60))
    drug = treatments["drug"].replace_strict({name: i for i, name in enumerate(options.drugs)})
    in_tables = np.zeros_like(doses)
    in_tables[treatments["stay_id"].to_numpy() - 1, step, drug.to_numpy()] = amount
    in_stay = np.arange(options.max_steps) < patients.steps[:, None]
    np.testing.assert_allclose(in_tables, doses * in_stay[..., None])
    assert (hours[treatments["drug"].to_numpy() == "norepinephrine"] == 6).all()


def test_a_second_stay_follows_the_first_with_the_same_traits(ward_tables):
    stays = ward_tables["stays"].sort("admitted_at")
    readmitted = stays.filter(pl.len().over("subject_id") > 1)
    assert 0.06 < readmitted.height / 2 / stays.height < 0.14
    pairs = readmitted.group_by("subject_id", maintain_order=True).agg(
        pl.col("age", "sex", "height_cm").n_unique(),
        gap=pl.col("admitted_at").last() - pl.col("discharged_at").first(),
    )
    assert (pairs.select("age", "sex", "height_cm") == 1).to_numpy().all()
    assert pairs["gap"].dt.total_days().min() >= 7


def test_without_readmissions_every_stay_is_another_subject():
    stays = collect_tables(make_ward(stays=200, share_readmitted=0))["stays"]
    assert stays["subject_id"].is_unique().all()
