import numpy as np
import pytest

from flowsheet.config import Censor, TaskConfig
from flowsheet.testing.tables import table
from flowsheet.windows.grid import Grid
from flowsheet.windows.history import build_response_history
from flowsheet.windows.task import Exclusion, build_targets


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
    targets, _ = build(144, [{"onset": 60, "end": 70}, {"onset": 100}], target="onset")
    assert to_digits(targets.y) == "010000"
    assert to_digits(targets.scored) == "110000"


def test_an_onset_at_the_prediction_time_is_not_predicted():
    targets, _ = build(120, [{"onset": 48}], target="onset")
    assert (to_digits(targets.y), to_digits(targets.scored)) == ("10000", "10000")


@pytest.mark.parametrize("censor", list(Censor))
def test_rows_after_discharge_or_before_the_record_are_not_scored(censor):
    targets, _ = build(60, [{"onset": 10}], censor=censor)
    assert not targets.scored[2]  # would predict at 72
    targets, _ = build(60, [], stay={"observed_from": 10}, horizon=0, cutoff_hours=8, censor=censor)
    assert not targets.scored[0]  # would predict at 8


@pytest.mark.parametrize("censor", ["complete", "competing"])
@pytest.mark.parametrize("onset", [None, 60, 80, 81])
def test_windows_beyond_the_stay_are_not_scored_whatever_their_outcome(censor, onset):
    episodes = [] if onset is None else [{"onset": onset}]
    targets, _ = build(80, episodes, censor=censor)
    assert to_digits(targets.scored) == "1100"  # row 3 has the window (72, 96]


def test_a_window_that_ends_at_discharge_is_complete():
    targets, _ = build(72, [], censor="complete")
    assert to_digits(targets.scored) == "110"


def test_the_rest_of_a_step_that_the_stay_does_not_outlast_is_incomplete():
    same_day = {"horizon": 0, "cutoff_hours": 8}
    targets, _ = build(40, [{"onset": 35}], **same_day, censor="complete")
    assert to_digits(targets.scored) == "10"  # the window (32, 48] is cut at 40
    targets, _ = build(40, [], **same_day, censor="keep")
    assert to_digits(targets.scored) == "11"


@pytest.mark.parametrize(("died_at", "scored"), [(None, "1111"), (95, "1110"), (72, "1110")])
def test_nothing_is_scored_after_death(died_at, scored):
    targets, _ = build(96, [{"onset": 80}], stay={"died_at": died_at})
    assert to_digits(targets.scored) == scored


def test_a_window_that_death_cuts_is_incomplete():
    targets, _ = build(96, [], stay={"died_at": 60}, censor="complete")
    assert to_digits(targets.scored) == "1000"


def test_comfort_measures_end_the_questions_where_the_task_says_so():
    stay = {"comfort_measures_at": 50}
    assert to_digits(build(96, [], stay=stay)[0].scored) == "1111"
    ended, _ = build(96, [], stay=stay, end_at="comfort_measures")
    assert to_digits(ended.scored) == "1100"
    ended, _ = build(96, [], stay=stay, end_at="comfort_measures", censor="complete")
    assert to_digits(ended.scored) == "1000"
    unknown, _ = build(96, [], end_at="comfort_measures")
    assert to_digits(unknown.scored) == "1111"


ARRIVES_IN_SHOCK = {"onset": 1, "end": 60, "known_at": 7, "present_on_admission": True}


def test_what_was_present_on_admission_is_a_state_from_the_first_row_on():
    targets, history = build(5, [ARRIVES_IN_SHOCK], step_hours=0.5, horizon=1)
    assert to_digits(targets.in_state) == "1" * 10  # also at 0.5 h, before the charted onset
    assert to_digits(targets.y) == "1" * 10
    assert targets.scored.all()
    assert history[:, 0].sum() == 0  # not known before 7 h


@pytest.mark.parametrize("later", [[], [{"onset": 80, "present_on_admission": False}]])
def test_onset_tasks_leave_out_stays_with_the_response_on_admission(later):
    targets, _ = build(120, [ARRIVES_IN_SHOCK, *later], target="onset")
    assert not targets.scored.any()
    assert set(targets.excluded) == {Exclusion.present_on_admission}


@pytest.mark.parametrize("flag", [False, None])
def test_a_stay_stays_in_the_risk_set_where_presence_on_admission_is_not_recorded(flag):
    episode = {"onset": 60, "present_on_admission": flag}
    targets, _ = build(120, [episode], target="onset")
    assert to_digits(targets.scored) == "11000"


def test_a_row_has_the_first_reason_that_excludes_it():
    stay = {"comfort_measures_at": 80, "died_at": 130}
    targets, _ = build(
        144,
        [{"onset": 30}],
        stay=stay,
        target="onset",
        censor="complete",
        end_at="comfort_measures",
    )
    names = [Exclusion(code).name for code in targets.excluded]
    assert names == [
        "none",
        "after_onset",
        "after_onset",
        "after_comfort_measures",
        "after_comfort_measures",
        "outside_stay",
    ]


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
    targets, history = build(144, [{"onset": 60, "end": 70}], target="onset", history_lags=3)
    assert np.nan_to_num(history[targets.scored]).sum() == 0
    assert to_digits(history[:, 0]) == "001000"


def test_history_without_lags_is_empty():
    assert build(50, [], history_lags=0)[1].shape == (3, 0)


DEATH = {"response": "death", "target": "onset", "step_hours": 1, "horizon": None, "at_hours": 4}


def test_one_question_a_stay():
    """Only the row at the hour is scored; death at any later time counts, also after the stay."""
    death = {"response": "death", "onset": 300}
    targets, _ = build(10, [death], {"died_at": 300}, **DEATH)
    assert len(targets.y) == 4
    assert to_digits(targets.y) == "1111"
    assert to_digits(targets.scored) == "0001"
    assert list(targets.excluded) == [Exclusion.not_asked] * 3 + [Exclusion.none]


def test_a_stay_that_ends_before_the_question_is_outside():
    targets, _ = build(3.5, [], **DEATH)
    assert set(targets.excluded) == {Exclusion.outside_stay}
    targets, _ = build(4, [], **DEATH)
    assert to_digits(targets.scored) == "0001"
    assert not targets.y.any()


def test_other_responses_do_not_count():
    targets, history = build(72, [{"onset": 30, "end": 40, "response": "aki"}])
    assert not targets.y.any()
    assert not np.nan_to_num(history).any()
    targets, _ = build(72, [{"onset": 30, "end": 40, "response": "aki"}], response="aki")
    assert to_digits(targets.y) == "100"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"response": "onset"}, "target=onset"),
        ({"horizon": None}, "needs at_hours"),
        ({"at_hours": 30}, "multiple of step_hours"),
        ({"at_hours": 48, "max_steps": 1}, "ends before at_hours"),
        ({"at_hours": 24, "horizon": 0, "cutoff_hours": 8}, "no window"),
    ],
)
def test_impossible_questions_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        TaskConfig(**{"name": "t", "step_hours": 24, **changes})
