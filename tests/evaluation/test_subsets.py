"""The rows of stays: their label, probability, alert, onset and lead time."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.config import EvaluationConfig, TaskConfig
from flowsheet.evaluation.folds import ModelPredictions
from flowsheet.evaluation.subsets import STAYS, list_subsets, score_rows
from tests.evaluation.conftest import simulate_stays

CONFIG = EvaluationConfig(name="small", minimum_events=1)
DAILY = TaskConfig(name="daily")
EARLY_WARNING = TaskConfig(name="early", step_hours=1, horizon=6, censor="keep")
SAME_DAY = TaskConfig(name="same", horizon=0, cutoff_hours=8)


def score_stays(sequences, predictions, task=DAILY):
    stays = next(subset for subset in list_subsets(sequences, None) if subset.name == STAYS)
    return score_rows(sequences, stays, predictions, CONFIG, task)


def make_stay(y, in_state, p, threshold=0.5, unscored=()):
    """(sequences, predictions) of one stay with these rows."""
    n_rows, p = len(y), np.array(p, float)
    template, _ = simulate_stays(n_subjects=1, seed=0)
    sequences = dataclasses.replace(
        template,
        x=np.zeros((n_rows, 1), np.float32),
        y=np.array(y, np.int8),
        scored=~np.isin(np.arange(n_rows), unscored),
        in_state=np.array(in_state, bool),
        history=np.zeros((n_rows, 0), np.float32),
        step=np.arange(1, n_rows + 1, dtype=np.int32),
        offsets=np.array([0, n_rows]),
        stay_id=np.array([7]),
        subject_id=np.array([3]),
    )
    return sequences, ModelPredictions(p, p >= threshold)


def lead_time_of(y, in_state, p, task):
    return score_stays(*make_stay(y, in_state, p), task).lead_time.tolist()


def test_a_next_day_onset_is_dated_to_the_end_of_its_day():
    # septic during day 4: y = 1 in the row of day 3, and the row of day 4 is in the state
    assert lead_time_of([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.9, 0.1, 0.9], DAILY) == [48]
    assert lead_time_of([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.1, 0.9, 0.9], DAILY) == [24]


def test_an_alert_after_onset_does_not_count():
    stays = score_stays(*make_stay([0, 0, 1, 1], [0, 0, 0, 1], [0.1, 0.1, 0.1, 0.9]))
    assert np.isnan(stays.lead_time).all()
    assert stays.p.tolist() == [0.1]
    assert not stays.is_alert.any()


def test_the_early_warning_label_precedes_onset_by_six_hours():
    labels = [0, 0, 1, 1, 1, 1, 1, 1, 1]
    p = [0, 0, 0, 0.9, 0, 0, 0, 0, 0]
    assert lead_time_of(labels, [0] * 8 + [1], p, EARLY_WARNING) == [5]


def test_an_onset_after_the_end_of_the_record_is_dated_by_the_label():
    assert lead_time_of([0, 0, 1, 1, 1], [0] * 5, [0, 0.9, 0, 0, 0], EARLY_WARNING) == [7]


def test_an_onset_soon_after_admission_is_dated_by_the_state():
    assert lead_time_of([1] * 4, [0, 0, 0, 1], [0.9, 0, 0, 0], EARLY_WARNING) == [3]


def test_the_same_day_lead_time_ends_with_the_day():
    assert lead_time_of([0, 1, 1], [0, 0, 1], [0.1, 0.9, 0.1], SAME_DAY) == [16]
    assert lead_time_of([0, 1, 1], [0, 0, 1], [0.9, 0.1, 0.1], SAME_DAY) == [40]


def test_a_stay_that_begins_in_the_state_is_left_out():
    assert len(score_stays(*make_stay([1, 1, 0, 0], [1, 1, 0, 0], [0.9] * 4)).y) == 0


def test_a_stay_without_scored_rows_is_left_out():
    assert len(score_stays(*make_stay([0, 0], [0, 0], [0.9] * 2, unscored=(0, 1))).y) == 0


def test_without_alerts_or_task_there_is_no_lead_time():
    sequences, predictions = make_stay([0, 1], [0, 0], [0.1, 0.9])
    assert score_stays(sequences, ModelPredictions(predictions.p)).lead_time is None
    assert score_stays(sequences, predictions, None).lead_time is None


def stays_by_definition(sequences, p, is_alert, task):
    """(label, probability, alert, lead time) of every stay, row by row."""
    for s in range(len(sequences)):
        all_rows = range(sequences.offsets[s], sequences.offsets[s + 1])
        rows = []
        for row in all_rows:
            if sequences.in_state[row]:
                break
            rows += [row] if sequences.scored[row] else []
        if not rows:
            continue
        yield (
            max(sequences.y[row] for row in rows),
            max(p[row] for row in rows),
            any(is_alert[row] for row in rows),
            lead_time_by_definition(sequences, rows, all_rows, is_alert, task),
        )


def lead_time_by_definition(sequences, rows, all_rows, is_alert, task):
    step = sequences.step
    positive = [step[row] + task.horizon for row in rows if sequences.y[row]]
    in_state = [step[row] for row in all_rows if sequences.in_state[row]]
    alerts = [step[row] for row in rows if is_alert[row]]
    if not positive or not alerts:
        return np.nan
    onset = min([*positive[:1], *in_state[:1]])
    hours = (onset - alerts[0]) * task.step_hours
    return hours if hours > 0 else np.nan


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20), n_subjects=st.integers(1, 12), threshold=st.floats(0.05, 0.95))
def test_stays_equal_their_definition_row_by_row(seed, n_subjects, threshold):
    sequences, signal = simulate_stays(n_subjects=n_subjects, seed=seed)
    p = 1 / (1 + np.exp(-signal))
    for task in (DAILY, EARLY_WARNING):
        stays = score_stays(sequences, ModelPredictions(p, p >= threshold), task)
        rows = zip(stays.y, stays.p, stays.is_alert, stays.lead_time, strict=True)
        expected_rows = list(stays_by_definition(sequences, p, p >= threshold, task))
        assert len(stays.y) == len(expected_rows)
        for row, expected in zip(rows, expected_rows, strict=True):
            assert row[:3] == expected[:3]
            assert row[3] == pytest.approx(expected[3], nan_ok=True)


def test_no_sequences_have_no_stays():
    sequences, _ = simulate_stays(n_subjects=2)
    empty = sequences.take(np.zeros(0, np.int64))
    assert len(score_stays(empty, ModelPredictions(np.zeros(0), np.zeros(0, bool))).y) == 0
