"""Every registered model passes the conformance suite, and the suite finds faulty models."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from flowsheet.models._scores import BedsideScore
from flowsheet.models.base import MODELS
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.testing.models import ModelConformance
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Feature

QUICK = {
    "epochs": 8,
    "hidden": 16,
    "batch_size": 4,
    "learning_rate": 0.02,
    "ema_decay": 0.5,
    "rounds": 30,
    "ensemble_size": 1,
    "members": ("gradient_boosting", "logistic_regression"),
}
"""Parameters of a quick fit, for the models that have them."""


BEDSIDE_VARIABLES = {
    **{"hr": (90, 15), "sbp": (110, -15), "never_measured": None, "resp": (18, 4)},
    **{"temp": (37.2, 0.7), "gcs": (14, -1.5), "wbc": (9, 3), "map": (75, -10)},
    **{"plt": (180, -60), "bili": (1, 0.4), "crea": (1, 0.4)},
}
"""The mean of each variable, and its change with the standard deviation of the heart rate."""


class BedsideConformance(ModelConformance):
    """Toy stays whose inputs are what bedside scores grade."""

    def make_toy(self, stays, seed):
        toy = toy_sequences(stays, seed, raw=True)
        z = (toy.x[:, 0] - 90) / 15
        columns = [
            np.full_like(z, np.nan) if scale is None else scale[0] + scale[1] * z
            for scale in BEDSIDE_VARIABLES.values()
        ]
        features = tuple(Feature(name, "value", name) for name in BEDSIDE_VARIABLES)
        return replace(toy, x=np.stack(columns, axis=1), features=features)


def _suite(kind: str) -> type[ModelConformance]:
    fields = MODELS.get(kind).Params.model_fields
    params = {name: value for name, value in QUICK.items() if name in fields}
    is_score = issubclass(MODELS.get(kind), BedsideScore)
    base = BedsideConformance if is_score else ModelConformance
    return type(f"Test_{kind}", (base,), {"kind": kind, "params": params})


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
