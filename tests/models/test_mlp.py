"""The network learns what a line cannot, and goes on after a kill as if nothing had happened."""

import numpy as np
import pytest

from flowsheet.models.base import Context
from flowsheet.models.mlp import MLP
from flowsheet.testing.models import plain_sequences

QUICK = {"hidden": 32, "learning_rate": 0.01, "epochs": 6, "batch": 8}


def corners(n, seed):
    """Exclusive or of two signs, which no line separates."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return plain_sequences(x, (x[:, 0] > 0) != (x[:, 1] > 0))


def fitted(train, valid, **context):
    model = MLP(MLP.Params(**QUICK))
    model.fit(train, valid, Context(**{"seed": 1, **context}))
    return model


def test_learns_exclusive_or():
    train, valid, test = (corners(2000, seed) for seed in range(3))
    p = fitted(train, valid).predict_proba(test)
    assert ((p > 0.5) == test.y).mean() > 0.9


def test_a_killed_fit_goes_on_where_it_was(tmp_path):
    train, valid = corners(1000, 1), corners(300, 2)
    whole = fitted(train, valid).predict_proba(valid)

    def stop(epoch, score):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(train, valid, report_score=stop, checkpoints=tmp_path)
    told = []
    again = fitted(train, valid, checkpoints=tmp_path, progress=told.append)
    assert again.predict_proba(valid).tobytes() == whole.tobytes()
    assert len(told) < QUICK["epochs"]


def test_the_curve_has_a_row_an_epoch():
    train = corners(500, 1)
    curve = fitted(train, corners(200, 2)).tables()["training_curve"]
    assert curve["epoch"].to_list() == list(range(1, len(curve) + 1))
    assert curve["training_loss"][-1] < curve["training_loss"][0]
