import numpy as np
import pytest

from flowsheet.config import TaskConfig
from flowsheet.testing.tables import table
from flowsheet.windows.grid import Grid
from flowsheet.windows.history import response_history
from flowsheet.windows.task import targets


def asked(hours, episodes, stay=None, **task):
    config = TaskConfig(name="t", **{"step_hours": 24, "horizon": 1, "censor": "keep", **task})
    grid = Grid.from_stays(
        table("stays", [{"stay_id": 1, "discharged_at": hours, **(stay or {})}]), config
    )
    told = table("episodes", [{"stay_id": 1, **episode} for episode in episodes])
    return targets(grid, told, config), response_history(grid, told, config)


def bits(values):
    return "".join("?" if np.isnan(v) else str(int(v)) for v in values)


@pytest.mark.parametrize(
    ("episode", "y", "in_state"),
    [
        (
            {"onset": 72},
            "01111",
            "00111",
        ),  # the window (48, 72] takes an onset at its end, and at 72 it is on
        ({"onset": 72.25}, "00111", "00011"),
        ({"onset": 48.25, "end": 72}, "01000", "00000"),  # half-open: over at 72
        ({"onset": 48.25, "end": 72.25}, "01100", "00100"),
        ({"onset": 10, "end": 24}, "00000", "00000"),
        ({"onset": 10, "end": 24.25}, "10000", "10000"),
        ({"onset": -5, "end": 1}, "00000", "00000"),
        ({"onset": 140}, "00001", "00000"),  # after discharge, recorded nevertheless
    ],
)
def test_state_in_the_next_step(episode, y, in_state):
    made, _ = asked(120, [episode])
    assert (bits(made.y), bits(made.in_state)) == (y, in_state)
    assert made.scored.all()


def test_two_episodes_are_one_state():
    made, _ = asked(144, [{"onset": 30, "end": 40}, {"onset": 100, "end": 130}])
    assert bits(made.y) == "100110"


def test_hours_ahead_at_hourly_steps():
    made, _ = asked(10, [{"onset": 9}], step_hours=1, horizon=6)
    assert bits(made.y) == "0011111111"


def test_same_day_asks_for_the_rest_of_the_day():
    same_day = {"horizon": 0, "cutoff_hours": 8}
    made, _ = asked(72, [{"onset": 24, "end": 30}], **same_day)
    assert bits(made.y) == "100"  # (8, 24] holds the onset; at 32 it is over
    made, _ = asked(72, [{"onset": 26, "end": 33}], **same_day)
    assert (bits(made.y), bits(made.in_state)) == (
        "010",
        "010",
    )  # already septic at the cut-off: marked


def test_first_onset_leaves_the_risk_set():
    made, _ = asked(144, [{"onset": 60, "end": 70}, {"onset": 100}], response="onset")
    assert bits(made.y) == "010000"
    assert bits(made.scored) == "110000"


def test_an_onset_at_the_prediction_is_past():
    made, _ = asked(120, [{"onset": 48}], response="onset")
    assert (bits(made.y), bits(made.scored)) == ("10000", "10000")


@pytest.mark.parametrize("censor", ["keep", "drop"])
def test_nobody_is_asked_after_discharge_or_before_the_record(censor):
    made, _ = asked(60, [{"onset": 10}], censor=censor)
    assert not made.scored[2]  # would predict at 72
    made, _ = asked(60, [], stay={"observed_from": 10}, horizon=0, cutoff_hours=8, censor=censor)
    assert not made.scored[0]  # would predict at 8


@pytest.mark.parametrize(
    ("episodes", "scored"),
    [
        ([], "1100"),  # 80 h: the windows of rows 3 and 4 outlast the stay
        ([{"onset": 60}], "1110"),  # seen in (72, 80]
        ([{"onset": 60, "end": 70}], "1100"),
        ([{"onset": 80}], "1110"),
        ([{"onset": 81}], "1100"),  # inside the window, but after discharge
    ],
)
def test_dropped_where_the_window_outlasts_the_stay_unless_seen(episodes, scored):
    made, _ = asked(80, episodes, censor="drop")
    assert bits(made.scored) == scored


def test_a_window_that_ends_at_discharge_is_whole():
    made, _ = asked(72, [], censor="drop")
    assert bits(made.scored) == "110"


def test_history_tells_the_steps_before_as_far_as_known():
    _, history = asked(120, [{"onset": 30, "end": 80, "known_at": 70}], history_lags=3)
    assert [bits(column) for column in history.T] == ["00110", "?0111", "??011"]


def test_history_of_what_is_known_too_late_reads_zero_until_then():
    _, history = asked(96, [{"onset": 10, "end": 20, "known_at": 70}], history_lags=3)
    assert [bits(column) for column in history.T] == ["0000", "?000", "??10"]


def test_history_on_the_same_day_ends_at_the_cut_off():
    same_day = {"horizon": 0, "cutoff_hours": 8, "history_lags": 2}
    _, history = asked(72, [{"onset": 10, "end": 26}], **same_day)
    assert [bits(column) for column in history.T] == ["010", "?11"]
    _, history = asked(72, [{"onset": 34, "end": 40}], **same_day)
    assert [bits(column) for column in history.T] == ["000", "?01"]


def test_history_of_first_onsets_is_zero_in_the_risk_set():
    made, history = asked(144, [{"onset": 60, "end": 70}], response="onset", history_lags=3)
    assert np.nan_to_num(history[made.scored]).sum() == 0
    assert bits(history[:, 0]) == "001000"


def test_no_history_is_asked_for():
    assert asked(50, [], history_lags=0)[1].shape == (3, 0)
