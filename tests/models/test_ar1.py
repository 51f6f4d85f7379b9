"""AR(1) is a Markov chain: its two probabilities are the two observed shares."""

import numpy as np
from scipy.special import logit

from flowsheet.models.ar1 import AR1
from flowsheet.models.base import Context
from flowsheet.testing.sequences import plain_sequences


def test_transition_probabilities_are_the_observed_shares():
    rng = np.random.default_rng(1)
    state = rng.integers(0, 2, 4000)
    y = rng.random(4000) < np.where(state == 1, 0.8, 0.1)
    train = plain_sequences(np.zeros((4000, 1)), y, state[:, None], length=8)
    model = AR1(AR1.Params())
    model.fit(train, train, Context(seed=1))
    p = model.predict_proba(train)
    shares = [y[state == s].mean() for s in (0, 1)]
    for s in (0, 1):
        np.testing.assert_allclose(p[state == s], shares[s], atol=1e-9)
    table = model.tables()["coefficients"]
    assert table["term"].to_list() == ["intercept", "history:0", "before_stay:0"]
    log_odds = logit(shares)
    expected = [log_odds[0], log_odds[1] - log_odds[0]]
    np.testing.assert_allclose(table["estimate"].to_list()[:2], expected)
