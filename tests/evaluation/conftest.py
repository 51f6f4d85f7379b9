"""Held-out stays with known outcomes, and models that predict them more or less accurately."""

import numpy as np
import pytest

from flowsheet.config import EvaluationConfig
from flowsheet.windows.sequences import Feature, Sequences

CONFIG = EvaluationConfig(name="small", resamples=100, minimum_events=5)
INTERCEPT = -2.0
"""Log odds of the event without a signal."""


def simulate_stays(n_subjects=150, seed=0):
    """(sequences, signal): stays of 3..12 steps, some subjects with two; the response is a state.

    The signal is each row's true log odds less ``INTERCEPT``.
    """
    rng = np.random.default_rng(seed)
    second_stays = rng.integers(0, n_subjects, n_subjects // 4)
    subject_id = np.sort(np.concatenate([np.arange(n_subjects), second_stays])) + 100
    n_stays = len(subject_id)
    lengths = rng.integers(3, 13, n_stays)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n_rows = int(offsets[-1])
    stay_effect = rng.normal(size=n_stays)[np.repeat(np.arange(n_stays), lengths)]
    signal = stay_effect + rng.normal(size=n_rows)
    y = (rng.random(n_rows) < to_probability(signal)).astype(np.int8)
    sequences = Sequences(
        x=np.zeros((n_rows, 1), np.float32),
        y=y,
        scored=rng.random(n_rows) < 0.9,
        in_state=rng.random(n_rows) < 0.1 + 0.4 * y,
        history=np.zeros((n_rows, 0), np.float32),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(n_stays) + 1000,
        subject_id=subject_id,
        features=(Feature("f", "value", "f"),),
    )
    return sequences, signal


def to_probability(signal):
    return 1 / (1 + np.exp(-(INTERCEPT + signal)))


def simulate_predictions(signal, seed=1):
    """Three models: the error of "similar" is hardly larger than that of "accurate"."""
    rng = np.random.default_rng(seed)
    errors = {"accurate": 0.1, "similar": 0.12, "noisy": 3.0}
    return {
        model: to_probability(signal + rng.normal(size=len(signal)) * error)
        for model, error in errors.items()
    }


@pytest.fixture(scope="session")
def stays_and_signal():
    return simulate_stays()


@pytest.fixture(scope="session")
def sequences(stays_and_signal):
    return stays_and_signal[0]


@pytest.fixture(scope="session")
def predictions(stays_and_signal):
    return simulate_predictions(stays_and_signal[1])
