"""The network learns what is not linear, and resumes after a kill."""

import numpy as np
import pytest

from flowsheet.models.base import Context
from flowsheet.models.mlp import MLP
from flowsheet.testing.sequences import plain_sequences

QUICK = {"hidden": 32, "learning_rate": 0.01, "epochs": 6, "batch_size": 8}


def exclusive_or(n, seed):
    """Exclusive or of two signs, which no line separates."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return plain_sequences(x, (x[:, 0] > 0) != (x[:, 1] > 0))


def fit(train, valid, **context):
    model = MLP(MLP.Params(**QUICK))
    model.fit(train, valid, Context(**{"seed": 1, **context}))
    return model


def test_learns_exclusive_or():
    train, valid, test = (exclusive_or(2000, seed) for seed in range(3))
    p = fit(train, valid).predict_proba(test)
    assert ((p > 0.5) == test.y).mean() > 0.9


def test_a_killed_fit_resumes_and_gives_the_same_result(tmp_path):
    train, valid = exclusive_or(1000, 1), exclusive_or(300, 2)
    uninterrupted = fit(train, valid).predict_proba(valid)

    def stop(epoch, score):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(train, valid, report_score=stop, checkpoints=tmp_path)
    lines = []
    resumed = fit(train, valid, checkpoints=tmp_path, progress=lines.append)
    assert resumed.predict_proba(valid).tobytes() == uninterrupted.tobytes()
    assert len(lines) < QUICK["epochs"]


def test_the_training_curve_has_a_row_for_each_epoch():
    train = exclusive_or(500, 1)
    curve = fit(train, exclusive_or(200, 2)).tables()["training_curve"]
    assert curve["epoch"].to_list() == list(range(1, len(curve) + 1))
    assert curve["training_loss"][-1] < curve["training_loss"][0]
