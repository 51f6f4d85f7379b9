"""A search is checked before any trial, and its first trial has the defaults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsheet.config import Choice, FloatRange, FrozenModel, IntRange, ModelConfig
from flowsheet.errors import UsageError
from flowsheet.models.base import MODELS
from flowsheet.testing.sequences import toy_sequences
from flowsheet.tuning.space import _nearest, resolve


def config(**values):
    return ModelConfig(kind="toy", **values)


def test_unknown_names_are_errors_that_name_the_nearest(toy):
    with pytest.raises(UsageError, match='did you mean "fail_above"'):
        resolve("toy", config(params={"fail_abve": 1.0}))
    with pytest.raises(UsageError, match="toy has no parameter 'y'"):
        resolve("toy", config(space={"y": Choice(of=(1,))}))
    with pytest.raises(UsageError, match="no model called 'toi'"):
        resolve("toi", config())


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"params": {"n": "many"}}, "models.toy.params.n"),
        ({"space": {"n": Choice(of=(3, "many"))}}, "models.toy.space.n"),
        ({"space": {"x": FloatRange(low=1, high=0)}}, "models.toy.space.x"),
        ({"space": {"x": FloatRange(low=0, high=1, log=True)}}, "models.toy.space.x"),
        ({"space": {"n": IntRange(low=1, high=3, step=0)}}, "models.toy.space.n"),
        ({"params": {"x": float("inf")}}, "models.toy.params.x"),
        ({"params": {"x": "1e400"}}, "models.toy.params.x"),
        ({"space": {"x": FloatRange(low=0, high=float("inf"))}}, "models.toy.space.x"),
        ({"history": True}, "models.toy.history"),
    ],
)
def test_values_that_are_not_valid_are_rejected_before_any_trial(toy, values, where):
    with pytest.raises(UsageError) as error:
        resolve("toy", config(**values))
    assert error.value.where == where


def test_history_is_a_parameter_of_models_that_can_use_it(toy, monkeypatch):
    class WithHistory(toy.ToyParams):
        history: bool = False

    monkeypatch.setattr(toy.Toy, "Params", WithHistory)
    assert resolve("toy", config(history=True)).params({}).history
    assert not resolve("toy", config()).params({}).history
    with pytest.raises(UsageError, match="history is on for the model toy, and off in its params"):
        resolve("toy", config(history=True, params={"history": False}))


def test_a_parameter_without_default_must_be_fixed_or_tuned(toy, monkeypatch):
    class WithoutDefault(FrozenModel):
        x: float
        n: int = 3
        kind: str = "a"

    monkeypatch.setattr(toy.Toy, "Params", WithoutDefault)
    assert resolve("toy", config()).start()["x"] == 0.0
    with pytest.raises(UsageError):
        resolve("toy", config(space={}))


@given(
    st.integers(-50, 50),
    st.integers(0, 40),
    st.integers(1, 7),
    st.one_of(st.none(), st.integers(-200, 200)),
)
def test_the_nearest_whole_value_is_on_the_grid(low, width, step, value):
    space = IntRange(low=low, high=low + width, step=step)
    grid = list(range(low, low + width + 1, step))
    nearest = _nearest(space, value)
    assert nearest in grid
    if value is not None:
        assert abs(nearest - value) == min(abs(other - value) for other in grid)


@given(st.floats(-10, 10), st.floats(0, 10), st.floats(-100, 100))
def test_the_nearest_real_value_is_inside(low, width, value):
    assert low <= _nearest(FloatRange(low=low, high=low + width), value) <= low + width


def test_the_first_trial_has_the_default_for_the_size_of_the_cohort():
    train = toy_sequences(60, 1, raw=False)
    suggested = MODELS.get("logistic_regression").suggest(train)["l2"]
    config = ModelConfig(kind="logistic_regression")
    search = resolve("logistic_regression", config).for_cohort(train)
    assert search.start() == {"l2": suggested}
    assert search.params({}).l2 == suggested
    assert search.params({"l2": 0.5}).l2 == 0.5
    fixed = resolve("logistic_regression", ModelConfig(kind=config.kind, params={"l2": 0.2}))
    assert fixed.for_cohort(train).params({}).l2 == 0.2
