"""Models take groups of inputs; the others change neither their predictions nor explanations."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from flowsheet.config import Choice, ModelConfig
from flowsheet.errors import CheckFailed
from flowsheet.models.base import MODELS, Context
from flowsheet.testing.sequences import FEATURES, LAGS, toy_sequences
from flowsheet.tuning.space import resolve
from flowsheet.windows.roles import find_role

QUICK = {
    "mlp": {"epochs": 1},
    "gradient_boosting": {"rounds": 5},
    "svm": {"components": 4},
    "gru": {"epochs": 1, "hidden": 4},
}
KNOWN_NAMES = {"lactate": "lact", "never_measured": "crp", "dose": "vancomycin"}
KNOWN_FEATURES = tuple(replace(f, source=KNOWN_NAMES.get(f.source, f.source)) for f in FEATURES)
"""With the catalogue's names, by which columns have roles."""
KINDS = ("logistic_regression", "naive_bayes", "svm", "mlp", "gradient_boosting", "arx")


def fit(kind, sequences, **params):
    model = MODELS.get(kind)(MODELS.get(kind).Params(**QUICK.get(kind, {}), **params))
    model.fit(sequences, sequences, Context(seed=1))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_chosen_groups_are_used_and_explained(kind):
    train = toy_sequences(40, 1, raw=not MODELS.get(kind).capabilities.scaled)
    model = fit(kind, train, inputs="value+static")
    others = [i for i, f in enumerate(FEATURES) if f.kind not in {"value", "static"}]
    x = train.x.copy()
    x[:, others] += 1
    assert np.array_equal(model.predict_proba(replace(train, x=x)), model.predict_proba(train))
    explained = model.explain(train, np.array([3, 7]))
    assert explained.values.shape == (2, len(FEATURES) + LAGS)
    assert (explained.values[:, others] == 0).all()
    missed = explained.log_odds - explained.baseline - explained.values.sum(axis=1)
    assert np.abs(missed).max() < 1e-2


def test_groups_are_written_as_a_list_or_as_text():
    params = MODELS.get("logistic_regression").Params
    assert params().inputs == "all"
    assert params(inputs=["value", "window"]).inputs == ("value", "window")
    present = ("value", "missing", "since", "treatment", "static", "time")
    assert params(inputs="present+derived").inputs == (*present, "derived")
    with pytest.raises(ValidationError):
        params(inputs="presence")


def test_groups_can_be_tuned():
    space = {"inputs": Choice(of=("all", "present", "present+derived"))}
    search = resolve("logistic_regression", ModelConfig(kind="logistic_regression", space=space))
    assert search.start() == {"inputs": "all"}
    assert "derived" in search.params({"inputs": "present+derived"}).inputs


def test_no_feature_of_the_groups_is_an_error():
    with pytest.raises(CheckFailed, match="none of the features"):
        fit("logistic_regression", toy_sequences(40, 1, raw=False), inputs="derived")


@pytest.mark.parametrize("kind", [*KINDS, "gru"])
def test_only_columns_of_the_chosen_roles_are_used(kind):
    train = toy_sequences(40, 1, raw=not MODELS.get(kind).capabilities.scaled)
    train = replace(train, features=KNOWN_FEATURES)
    model = fit(kind, train, roles="physiology+patient")
    others = [
        i for i, f in enumerate(KNOWN_FEATURES) if find_role(f) not in ("physiology", "patient")
    ]
    x = train.x.copy()
    x[:, others] += 1
    assert np.array_equal(model.predict_proba(replace(train, x=x)), model.predict_proba(train))


def test_without_the_process_of_care_unknown_values_are_typical_ones():
    """Where inputs are raw, that a value is unknown says what is measured."""
    train = replace(toy_sequences(200, 1, raw=True), features=KNOWN_FEATURES)
    model = fit("gradient_boosting", train, roles="physiology", changes=())
    typical = np.array([np.nanmedian(train.x[train.scored, i]) for i in (0, 1)])
    x = train.x.copy()
    is_unknown = np.isnan(x[:, :2])
    assert is_unknown.any()
    x[:, :2] = np.where(is_unknown, typical, x[:, :2])
    filled = replace(train, x=x)
    np.testing.assert_array_equal(model.predict_proba(train), model.predict_proba(filled))
    rows = np.flatnonzero(is_unknown.any(axis=1))[:3]
    np.testing.assert_array_equal(
        model.explain(train, rows).values, model.explain(filled, rows).values
    )
    full = fit("gradient_boosting", train, changes=())
    assert not np.array_equal(full.predict_proba(train), full.predict_proba(filled))


def test_roles_are_written_as_a_list_or_as_text():
    params = MODELS.get("logistic_regression").Params
    assert params(roles=["clock"]).roles == ("clock",)
    assert params(roles="physiology+patient").roles == ("physiology", "patient")
    assert params(roles="all-clock-process").roles == (
        "physiology",
        "patient",
        "drug",
        "anti_infective",
        "mixed",
    )
    for wrong in ("all-clocks", "physio", "all-"):
        with pytest.raises(ValidationError):
            params(roles=wrong)
