"""Naive Bayes adds up densities of what is known."""

import numpy as np
from scipy.stats import norm

from flowsheet.models.base import Context
from flowsheet.models.naive_bayes import Column, NaiveBayes
from flowsheet.testing.models import plain_sequences, toy_sequences


def test_evidence_is_the_ratio_of_two_normal_densities():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 5000).astype(np.int8)
    v = (rng.normal(size=5000) * (1 + y) + y - 3).astype(np.float32)
    column = Column.fit(v, y, smoothing=0.0)
    inside = np.clip(v, column.low, column.high).astype(np.float64)
    parts = [norm(inside[y == c].mean(), inside[y == c].std()).logpdf(inside) for c in (0, 1)]
    np.testing.assert_allclose(column.evidence(v), parts[1] - parts[0], atol=1e-6)


def test_what_is_not_known_says_nothing():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 1000).astype(np.int8)
    for v in (rng.normal(size=1000) + y, (rng.random(1000) < 0.2 + 0.5 * y) * 1.0):
        holes = np.where(rng.random(1000) < 0.3, np.nan, v).astype(np.float32)
        column, known = Column.fit(holes, y, 0.01), ~np.isnan(holes)
        assert (column.evidence(holes)[~known] == 0).all()
        assert column == Column.fit(holes[known], y[known], 0.01)
        assert column.evidence(holes)[known].any()


def test_a_column_without_variation_says_nothing():
    y = np.array([0, 0, 1, 1], dtype=np.int8)
    for v in ([np.nan] * 4, [7.0] * 4, [1.0, 2.0, 3.0, np.nan]):
        assert (
            Column.fit(np.array(v, dtype=np.float32), y, 0.01).evidence(
                np.array([0.0, 9.0], np.float32)
            )
            == 0
        ).all()


def test_repeated_inputs_do_not_make_it_too_sure():
    """Ten copies of one input: the raw sum is ten times too sure, the calibrated one is not."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 20_000)
    x = np.repeat((rng.normal(size=20_000) + y)[:, None], 10, axis=1)
    train, valid = (plain_sequences(x[i::2], y[i::2]) for i in (0, 1))
    model = NaiveBayes(NaiveBayes.Params())
    model.fit(train, valid, Context(seed=1))
    p = model.predict_proba(train)
    for low, high in ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9)):
        chosen = (p > low) & (p < high)
        assert abs(train.y[chosen].mean() - p[chosen].mean()) < 0.03


def test_densities_by_name():
    train = toy_sequences(200, 1, raw=True)
    model = NaiveBayes(NaiveBayes.Params())
    model.fit(train, train, Context(seed=1))
    table = model.tables()["densities"]
    assert table["term"].to_list() == [f.name for f in train.features]
    hr = table.row(0, named=True)
    assert 70 < hr["mean_without"] < hr["mean_with"] < 120
