"""Platt's curve recovers a known one, stays finite, and keeps the order of the scores."""

import numpy as np

from flowsheet.models._platt import Platt


def draw(n, seed, intercept=-2.0, slope=1.5):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n) * 3
    return scores, (rng.random(n) < 1 / (1 + np.exp(-(intercept + slope * scores)))).astype(np.int8)


def test_recovers_the_curve():
    curve = Platt.fit(draw(100_000, 1))
    np.testing.assert_allclose([curve.intercept, curve.slope], [-2.0, 1.5], atol=0.05)


def test_separated_scores_stay_finite():
    scores, y = np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0, 0, 1, 1], dtype=np.int8)
    p = Platt.fit((scores, y))(np.array([-1e3, 0.0, 1e3]))
    assert np.isfinite(p).all()
    assert p[0] < p[1] < p[2]


def test_falls_back_to_the_next_part():
    scores, y = draw(5000, 2)
    one_class = (scores, np.zeros_like(y))
    inverted = (-scores, y)
    empty = (np.empty(0), np.empty(0, dtype=np.int8))
    assert Platt.fit(empty, one_class, inverted, (scores, y)) == Platt.fit((scores, y))
