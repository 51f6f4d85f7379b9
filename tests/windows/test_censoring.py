"""Weights of complete windows, and what they restore."""

from dataclasses import replace

import numpy as np
import pytest

from flowsheet.config import TaskConfig
from flowsheet.testing.sequences import plain_sequences
from flowsheet.windows.censoring import MIN_PROBABILITY, MIN_ROWS, weight_rows
from flowsheet.windows.task import Exclusion

COMPETING = TaskConfig(name="t", censor="competing")


def simulate_rows(seed, n_stays=4000, steps=4):
    """Sequences and a mask of complete windows.

    Whether a window is complete depends on the step and the state, and so does the outcome;
    given these, both are independent.
    """
    rng = np.random.default_rng(seed)
    n = n_stays * steps
    step = np.tile(np.arange(1, steps + 1), n_stays)
    in_state = rng.random(n) < 0.3
    y = rng.random(n) < np.where(in_state, 0.8, 0.1 * step)
    is_complete = rng.random(n) < np.where(in_state, 0.9, 1 - 0.2 * step)
    excluded = np.where(is_complete, Exclusion.none, Exclusion.incomplete_window)
    sequences = plain_sequences(np.zeros((n, 1)), y, length=steps)
    sequences = replace(
        sequences, scored=is_complete, in_state=in_state, excluded=excluded.astype(np.int8)
    )
    return sequences, is_complete


def test_complete_windows_stand_for_all_that_are_asked():
    train, _ = simulate_rows(seed=0)
    test, is_complete = simulate_rows(seed=1)
    weighted = weight_rows(test, train, COMPETING)
    assert (weighted.weight[~is_complete] == 0).all()
    assert weighted.weight.sum() == pytest.approx(test.rows, rel=0.02)
    everyone = test.y.mean()
    assert np.average(test.y, weights=weighted.weight) == pytest.approx(everyone, abs=0.015)
    assert abs(test.y[is_complete].mean() - everyone) > 0.03


@pytest.mark.parametrize("censor", ["complete", "keep"])
def test_without_competing_events_each_scored_row_counts_once(censor):
    test, is_complete = simulate_rows(seed=1, n_stays=50)
    task = TaskConfig(name="t", censor=censor)
    np.testing.assert_array_equal(weight_rows(test, test, task).weight, is_complete.astype(float))


def test_weights_depend_on_training_stays_only_and_not_on_outcomes():
    train, _ = simulate_rows(seed=0, n_stays=200)
    test, _ = simulate_rows(seed=1, n_stays=50)
    weight = weight_rows(test, train, COMPETING).weight
    flipped = weight_rows(
        replace(test, y=1 - test.y), replace(train, y=1 - train.y), COMPETING
    ).weight
    np.testing.assert_array_equal(weight, flipped)
    first = test.take(np.arange(5))
    np.testing.assert_array_equal(weight_rows(first, train, COMPETING).weight, weight[: first.rows])


def test_rows_that_are_not_asked_about_do_not_count_as_censored():
    train, is_complete = simulate_rows(seed=0, n_stays=500)
    excluded = np.where(is_complete, train.excluded, Exclusion.after_onset).astype(np.int8)
    train = replace(train, excluded=excluded)
    test, is_complete = simulate_rows(seed=1, n_stays=50)
    np.testing.assert_array_equal(
        weight_rows(test, train, COMPETING).weight, is_complete.astype(float)
    )


def test_few_training_rows_are_pooled_and_no_row_stands_for_more_than_twenty():
    train, _ = simulate_rows(seed=0, n_stays=5)
    assert train.rows < MIN_ROWS
    test, is_complete = simulate_rows(seed=1, n_stays=20)
    never = np.full(train.rows, Exclusion.incomplete_window, np.int8)
    unlikely = replace(train, scored=np.zeros(train.rows, bool), excluded=never)
    weight = weight_rows(test, unlikely, COMPETING).weight
    assert set(weight[is_complete]) == {1 / MIN_PROBABILITY}
    late = replace(test, step=test.step + 100)
    assert (weight_rows(late, train, COMPETING).weight[is_complete] >= 1).all()


def test_without_any_training_row_every_scored_row_counts_once():
    train, _ = simulate_rows(seed=0, n_stays=2)
    test, is_complete = simulate_rows(seed=1, n_stays=2)
    nobody = train.take(np.zeros(2, bool))
    np.testing.assert_array_equal(
        weight_rows(test, nobody, COMPETING).weight, is_complete.astype(float)
    )
