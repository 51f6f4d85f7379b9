"""Every registered model passes the conformance suite, and the suite finds faulty models."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from flowsheet.models.base import MODELS
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.testing.models import ModelConformance

QUICK = {
    "epochs": 8,
    "hidden": 16,
    "batch_size": 4,
    "learning_rate": 0.02,
    "ema_decay": 0.5,
    "rounds": 30,
}
"""Parameters of a quick fit, for the models that have them."""


def _suite(kind: str) -> type[ModelConformance]:
    fields = MODELS.get(kind).Params.model_fields
    params = {name: value for name, value in QUICK.items() if name in fields}
    return type(f"Test_{kind}", (ModelConformance,), {"kind": kind, "params": params})


globals().update({f"Test_{kind}": _suite(kind) for kind in MODELS.names()})


class _LooksAhead(LogisticRegression):
    """Uses the next row."""

    def matrix(self, sequences, rows=None):
        x = np.roll(sequences.x, -1, axis=0)
        return x if rows is None else x[rows]


class _FitsAllRows(LogisticRegression):
    """Learns from rows that are not scored."""

    def scored_rows(self, sequences):
        all_scored = replace(sequences, scored=np.ones_like(sequences.scored))
        return super().scored_rows(all_scored)


@pytest.mark.parametrize(
    ("cls", "test_name"),
    [
        (_LooksAhead, "test_no_look_ahead"),
        (_FitsAllRows, "test_rows_that_are_not_scored_do_not_count"),
    ],
)
def test_the_suite_finds_a_faulty_model(cls, test_name, monkeypatch):
    monkeypatch.setitem(MODELS._classes, "logistic_regression", cls)
    suite = _suite("logistic_regression")()
    train, valid, test = (suite.make_toy(n, n) for n in (60, 30, 20))
    fixtures = {"fitted": suite.fit(train, valid), "train": train, "valid": valid, "test": test}
    test_function = getattr(suite, test_name)
    arguments = {name: fixtures[name] for name in inspect.signature(test_function).parameters}
    with pytest.raises(AssertionError):
        test_function(**arguments)
