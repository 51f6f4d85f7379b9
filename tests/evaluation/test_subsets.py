"""A stay's one score, its onset and how long before it the model rang, against their definition stay by stay."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.subsets import STAYS, list_subsets, scored

from .conftest import make_ward

CONFIG = EvaluationConfig(name="small", minimum_events=1)
DAILY = TaskConfig(name="daily")
EARLY = TaskConfig(name="early", step_hours=1, horizon=6, censor="keep")
SAME_DAY = TaskConfig(name="same", horizon=0, cutoff_hours=8)


def stays_of(sequences, told, task=DAILY):
    subset = next(each for each in list_subsets(sequences, None) if each.name == STAYS)
    return scored(sequences, subset, told, CONFIG, task)


def one_stay(y, in_state, p, rings=0.5, unscored=()):
    """The stay of these rows, beside one that is never at risk."""
    ward, _ = make_ward(subjects=1, seed=0)
    rows, p = len(y), np.array(p, float)
    sequences = dataclasses.replace(
        ward,
        x=np.zeros((rows, 1), np.float32),
        y=np.array(y, np.int8),
        scored=~np.isin(np.arange(rows), unscored),
        in_state=np.array(in_state, bool),
        history=np.zeros((rows, 0), np.float32),
        step=np.arange(1, rows + 1, dtype=np.int32),
        offsets=np.array([0, rows]),
        stay_id=np.array([7]),
        subject_id=np.array([3]),
    )
    return sequences, ModelPredictions(p, p >= rings)


def lead(y, in_state, p, task, **also):
    found = stays_of(*one_stay(y, in_state, p, **also), task)
    assert found.lead is not None
    return found.lead.tolist()


def test_next_day_onset_is_dated_to_the_end_of_its_day():
    # septic during day 4: the row of day 3 says so, the row of day 4 is in the state
    assert lead([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.9, 0.1, 0.9], DAILY) == [48]
    assert lead([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], DAILY) == [24]


def test_an_alarm_after_onset_is_none():
    found = stays_of(*one_stay([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.1, 0.1, 0.9]))
    assert np.isnan(found.lead).all()
    assert found.p.tolist() == [0.1]
    assert not found.alarm.any()


def test_the_early_warning_label_comes_six_hours_before_onset():
    labels = [0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert lead(labels, [0] * 8 + [1], [0, 0, 0, 0.9, 0, 0, 0, 0, 0], EARLY) == [5]
    assert lead(labels[:5], [0] * 5, [0, 0.9, 0, 0, 0], EARLY) == [
        7
    ]  # the record ends before onset
    assert lead([1] * 4, [0, 0, 0, 1], [0.9, 0, 0, 0], EARLY) == [
        3
    ]  # onset sooner than the first label can tell


def test_the_same_day_lead_runs_to_the_end_of_the_day():
    assert lead([0, 1, 1], [0, 0, 1], [0.1, 0.9, 0.1], SAME_DAY) == [16]
    assert lead([0, 1, 1], [0, 0, 1], [0.9, 0.1, 0.1], SAME_DAY) == [40]


def test_who_begins_in_the_state_asks_nothing():
    assert len(stays_of(*one_stay([1, 1, 0, 0], [1, 1, 0, 0], [0.9] * 4)).y) == 0
    assert len(stays_of(*one_stay([0, 0], [0, 0], [0.9] * 2, unscored=(0, 1))).y) == 0


def test_without_alarms_or_task_there_is_no_lead_time():
    sequences, told = one_stay([0, 1], [0, 0], [0.1, 0.9])
    assert stays_of(sequences, ModelPredictions(told.p)).lead is None
    assert stays_of(sequences, told, None).lead is None


def literally(sequences, p, rings, task):
    """(label, score, rings, lead) of every stay, row by row."""
    for s in range(len(sequences)):
        rows = []
        for row in range(sequences.offsets[s], sequences.offsets[s + 1]):
            if sequences.in_state[row]:
                break
            rows += [row] if sequences.scored[row] else []
        if not rows:
            continue
        due = [sequences.step[r] + task.horizon for r in rows if sequences.y[r]]
        ahead = [
            r
            for r in range(sequences.offsets[s], sequences.offsets[s + 1])
            if sequences.in_state[r]
        ]
        onset = min([*due[:1], *(sequences.step[r] for r in ahead[:1])]) if due else None
        rang = [sequences.step[r] for r in rows if rings[r]]
        hours = (onset - rang[0]) * task.step_hours if due and rang else 0
        yield (
            max(sequences.y[r] for r in rows),
            max(p[r] for r in rows),
            bool(rang),
            hours if hours > 0 else np.nan,
        )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), subjects=st.integers(1, 12), threshold=st.floats(0.05, 0.95))
def test_stays_equal_the_definition_row_by_row(seed, subjects, threshold):
    sequences, signal = make_ward(subjects=subjects, seed=seed)
    p = 1 / (1 + np.exp(-signal))
    for task in (DAILY, EARLY):
        found = stays_of(sequences, ModelPredictions(p, p >= threshold), task)
        expected = list(literally(sequences, p, p >= threshold, task))
        assert len(found.y) == len(expected)
        for got, want in zip(
            zip(found.y, found.p, found.alarm, found.lead, strict=True), expected, strict=True
        ):
            assert got[:3] == want[:3]
            assert got[3] == pytest.approx(want[3], nan_ok=True)


def test_empty_wards_have_no_stays():
    sequences, _ = make_ward(subjects=2)
    none = sequences.take(np.zeros(0, np.int64))
    assert len(stays_of(none, ModelPredictions(np.zeros(0), np.zeros(0, bool))).y) == 0
