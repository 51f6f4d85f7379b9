"""Held-out stays whose truth is known, and models that see it more or less well."""

import numpy as np
import pytest

from flowsheet.config import EvaluationConfig
from flowsheet.windows.sequences import Feature, Sequences

CONFIG = EvaluationConfig(name="small", resamples=100, minimum_events=5)


def make_ward(subjects=150, seed=0, rate=-2.0):
    """(sequences, signal): stays of 3..12 steps, some subjects with two; the response is a state."""
    rng = np.random.default_rng(seed)
    subject = (
        np.sort(np.concatenate([np.arange(subjects), rng.integers(0, subjects, subjects // 4)]))
        + 100
    )
    lengths = rng.integers(3, 13, len(subject))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = int(offsets[-1])
    signal = rng.normal(size=len(subject))[
        np.repeat(np.arange(len(subject)), lengths)
    ] + rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-(rate + signal)))).astype(np.int8)
    sequences = Sequences(
        x=np.zeros((rows, 1), np.float32),
        y=y,
        scored=rng.random(rows) < 0.9,
        in_state=rng.random(rows) < 0.1 + 0.4 * y,
        history=np.zeros((rows, 0), np.float32),
        step=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int32),
        offsets=offsets,
        stay_id=np.arange(len(subject)) + 1000,
        subject_id=subject,
        features=(Feature("f", "value", "f"),),
    )
    return sequences, signal


def make_predictions(signal, rate=-2.0, seed=1):
    """Three models: sharp sees the signal, twin nearly as well, blunt hardly."""
    rng = np.random.default_rng(seed)
    seen = {"sharp": 0.1, "twin": 0.12, "blunt": 3.0}
    return {
        name: 1 / (1 + np.exp(-(rate + signal + rng.normal(size=len(signal)) * s)))
        for name, s in seen.items()
    }


@pytest.fixture(scope="session")
def ward():
    return make_ward()


@pytest.fixture(scope="session")
def predictions(ward):
    return make_predictions(ward[1])
