"""ARX uses the current inputs and the known past, and forgets a dose after its own step."""

from dataclasses import replace

from flowsheet.models.arx import ARX
from flowsheet.models.base import Context
from flowsheet.testing.sequences import toy_sequences


def test_a_dose_is_forgotten_at_the_next_step():
    train = toy_sequences(200, 1, raw=False)
    model = ARX(ARX.Params())
    model.fit(train, train, Context(seed=1))
    x = train.x.copy()
    x[train.step == 2, [f.name for f in train.features].index("dose")] += 1
    change = model.predict_proba(replace(train, x=x)) - model.predict_proba(train)
    assert (change[train.step == 2] < 0).all()
    assert (change[train.step != 2] == 0).all()


def test_terms_are_the_history_then_the_inputs():
    train = toy_sequences(200, 1, raw=False)
    model = ARX(ARX.Params(lags=2))
    model.fit(train, train, Context(seed=1))
    history = ["history:0", "history:1", "before_stay:0", "before_stay:1"]
    names = [f.name for f in train.features]
    assert model.tables()["coefficients"]["term"].to_list() == ["intercept", *history, *names]
    estimates = dict(model.tables()["coefficients"].select("term", "estimate").iter_rows())
    assert abs(estimates["history:0"] - 3.0) < 1.0
    assert abs(estimates["hr"] - 1.5) < 0.5
