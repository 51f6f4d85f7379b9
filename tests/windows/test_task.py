import numpy as np
import pytest

from flowsheet.config import TaskConfig
from flowsheet.testing.tables import table
from flowsheet.windows.grid import Grid
from flowsheet.windows.history import build_response_history
from flowsheet.windows.task import build_targets


def build(hours, episodes, stay=None, **task):
    """Targets and response history of a stay of that many hours."""
    config = TaskConfig(name="t", **{"step_hours": 24, "horizon": 1, "censor": "keep", **task})
    grid = Grid.from_stays(
        table("stays", [{"stay_id": 1, "discharged_at": hours, **(stay or {})}]), config
    )
    rows = table("episodes", [{"stay_id": 1, **episode} for episode in episodes])
    return build_targets(grid, rows, config), build_response_history(grid, rows, config)


def to_digits(values):
    """0, 1, or ? for NaN."""
    return "".join("?" if np.isnan(value) else str(int(value)) for value in values)


@pytest.mark.parametrize(
    ("episode", "y", "in_state"),
    [
        # the window (48, 72] includes an onset at its end, and at 72 the episode is present
        ({"onset": 72}, "01111", "00111"),
        ({"onset": 72.25}, "00111", "00011"),
        ({"onset": 48.25, "end": 72}, "01000", "00000"),  # half-open: has ended at 72
        ({"onset": 48.25, "end": 72.25}, "01100", "00100"),
        ({"onset": 10, "end": 24}, "00000", "00000"),
        ({"onset": 10, "end": 24.25}, "10000", "10000"),
        ({"onset": -5, "end": 1}, "00000", "00000"),
        ({"onset": 140}, "00001", "00000"),  # recorded after discharge
    ],
)
def test_the_state_in_the_next_step(episode, y, in_state):
    targets, _ = build(120, [episode])
    assert (to_digits(targets.y), to_digits(targets.in_state)) == (y, in_state)
    assert targets.scored.all()


def test_several_episodes_give_one_state():
    targets, _ = build(144, [{"onset": 30, "end": 40}, {"onset": 100, "end": 130}])
    assert to_digits(targets.y) == "100110"


def test_a_horizon_of_several_steps():
    targets, _ = build(10, [{"onset": 9}], step_hours=1, horizon=6)
    assert to_digits(targets.y) == "0011111111"


def test_horizon_0_predicts_the_rest_of_the_day():
    same_day = {"horizon": 0, "cutoff_hours": 8}
    targets, _ = build(72, [{"onset": 24, "end": 30}], **same_day)
    assert to_digits(targets.y) == "100"  # (8, 24] contains the onset; at 32 it has ended
    targets, _ = build(72, [{"onset": 26, "end": 33}], **same_day)
    assert to_digits(targets.y) == "010"
    assert to_digits(targets.in_state) == "010"  # septic at the cut-off already


def test_a_stay_leaves_the_risk_set_at_its_first_onset():
    targets, _ = build(144, [{"onset": 60, "end": 70}, {"onset": 100}], response="onset")
    assert to_digits(targets.y) == "010000"
    assert to_digits(targets.scored) == "110000"


def test_an_onset_at_the_prediction_time_is_not_predicted():
    targets, _ = build(120, [{"onset": 48}], response="onset")
    assert (to_digits(targets.y), to_digits(targets.scored)) == ("10000", "10000")


@pytest.mark.parametrize("censor", ["keep", "drop"])
def test_rows_after_discharge_or_before_the_record_are_not_scored(censor):
    targets, _ = build(60, [{"onset": 10}], censor=censor)
    assert not targets.scored[2]  # would predict at 72
    targets, _ = build(60, [], stay={"observed_from": 10}, horizon=0, cutoff_hours=8, censor=censor)
    assert not targets.scored[0]  # would predict at 8


@pytest.mark.parametrize(
    ("episodes", "scored"),
    [
        ([], "1100"),  # 80 h: the windows of rows 3 and 4 extend beyond the stay
        ([{"onset": 60}], "1110"),  # observed in (72, 80]
        ([{"onset": 60, "end": 70}], "1100"),
        ([{"onset": 80}], "1110"),
        ([{"onset": 81}], "1100"),  # in the window, but after discharge
    ],
)
def test_drop_keeps_windows_beyond_the_stay_only_if_the_response_was_observed(episodes, scored):
    targets, _ = build(80, episodes, censor="drop")
    assert to_digits(targets.scored) == scored


def test_a_window_that_ends_at_discharge_is_observed_completely():
    targets, _ = build(72, [], censor="drop")
    assert to_digits(targets.scored) == "110"


def test_history_contains_earlier_steps_as_far_as_they_are_known():
    _, history = build(120, [{"onset": 30, "end": 80, "known_at": 70}], history_lags=3)
    assert [to_digits(column) for column in history.T] == ["00110", "?0111", "??011"]


def test_history_of_an_episode_is_zero_until_the_episode_is_known():
    _, history = build(96, [{"onset": 10, "end": 20, "known_at": 70}], history_lags=3)
    assert [to_digits(column) for column in history.T] == ["0000", "?000", "??10"]


def test_history_with_horizon_0_ends_at_the_cut_off():
    same_day = {"horizon": 0, "cutoff_hours": 8, "history_lags": 2}
    _, history = build(72, [{"onset": 10, "end": 26}], **same_day)
    assert [to_digits(column) for column in history.T] == ["010", "?11"]
    _, history = build(72, [{"onset": 34, "end": 40}], **same_day)
    assert [to_digits(column) for column in history.T] == ["000", "?01"]


def test_history_of_first_onsets_is_zero_in_the_risk_set():
    targets, history = build(144, [{"onset": 60, "end": 70}], response="onset", history_lags=3)
    assert np.nan_to_num(history[targets.scored]).sum() == 0
    assert to_digits(history[:, 0]) == "001000"


def test_history_without_lags_is_empty():
    assert build(50, [], history_lags=0)[1].shape == (3, 0)
