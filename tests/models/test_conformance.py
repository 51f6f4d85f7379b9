"""Every registered model keeps the contract, whoever adds it."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from flowsheet.models.base import MODELS
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.testing.models import ModelConformance

SMALLER = {
    "epochs": 8,
    "hidden": 16,
    "batch": 4,
    "learning_rate": 0.02,
    "averaging": 0.5,
    "rounds": 30,
}
"""Parameters that make a fit quick, for the models that have them."""


def _suite(kind: str) -> type[ModelConformance]:
    fields = MODELS.get(kind).Params.model_fields
    params = {name: value for name, value in SMALLER.items() if name in fields}
    return type(f"Test_{kind}", (ModelConformance,), {"kind": kind, "params": params})


globals().update({f"Test_{kind}": _suite(kind) for kind in MODELS.names()})


class _Peeks(LogisticRegression):
    """Looks one row ahead."""

    def matrix(self, sequences, rows=None):
        x = np.roll(sequences.x, -1, axis=0)
        return x if rows is None else x[rows]


class _CountsEverything(LogisticRegression):
    """Learns from rows that are not scored."""

    def scored(self, sequences):
        return super().scored(replace(sequences, scored=np.ones_like(sequences.scored)))


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (_Peeks, "test_no_look_ahead"),
        (_CountsEverything, "test_rows_that_are_not_scored_do_not_count"),
    ],
)
def test_the_suite_catches_a_model_that_breaks_a_law(cls, law, monkeypatch):
    monkeypatch.setitem(MODELS._classes, "logistic_regression", cls)
    suite = _suite("logistic_regression")()
    train, valid, test = (suite.make_toy(n, n) for n in (60, 30, 20))
    asked = {"fitted": suite.fit(train, valid), "train": train, "valid": valid, "test": test}
    check = getattr(suite, law)
    with pytest.raises(AssertionError):
        check(**{name: asked[name] for name in inspect.signature(check).parameters})
