"""Platt's curve: recovers a known one, stays finite, never turns the order round."""

import numpy as np

from flowsheet.models._platt import Platt


def drawn(n, seed, intercept=-2.0, slope=1.5):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n) * 3
    return scores, (rng.random(n) < 1 / (1 + np.exp(-(intercept + slope * scores)))).astype(np.int8)


def test_recovers_the_curve():
    curve = Platt.fit(drawn(100_000, 1))
    np.testing.assert_allclose([curve.intercept, curve.slope], [-2.0, 1.5], atol=0.05)


def test_separated_scores_stay_finite():
    p = Platt.fit((np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0, 0, 1, 1], dtype=np.int8)))(
        np.array([-1e3, 0.0, 1e3])
    )
    assert np.isfinite(p).all()
    assert p[0] < p[1] < p[2]


def test_falls_back_to_the_next_part():
    good = drawn(5000, 2)
    one_class, inverted = (good[0], np.zeros_like(good[1])), (-good[0], good[1])
    nobody = (np.empty(0), np.empty(0, dtype=np.int8))
    assert Platt.fit(nobody, one_class, inverted, good) == Platt.fit(good)
