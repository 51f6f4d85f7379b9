"""Naive Bayes adds up the log density ratios of the known inputs."""

import numpy as np
import pytest
from scipy.stats import norm

from flowsheet.models.base import Context
from flowsheet.models.naive_bayes import Column, NaiveBayes
from flowsheet.testing.sequences import plain_sequences, toy_sequences


def test_evidence_is_the_ratio_of_two_normal_densities():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 5000).astype(np.int8)
    v = (rng.normal(size=5000) * (1 + y) + y - 3).astype(np.float32)
    column = Column.fit(v, y, smoothing=0.0)
    clipped = np.clip(v, column.low, column.high).astype(np.float64)
    without, with_event = (
        norm(clipped[y == c].mean(), clipped[y == c].std()).logpdf(clipped) for c in (0, 1)
    )
    np.testing.assert_allclose(column.evidence(v), with_event - without, atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_unknown_values_are_no_evidence(binary):
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 1000).astype(np.int8)
    values = (rng.random(1000) < 0.2 + 0.5 * y) * 1.0 if binary else rng.normal(size=1000) + y
    values = np.where(rng.random(1000) < 0.3, np.nan, values).astype(np.float32)
    column, known = Column.fit(values, y, 0.01), ~np.isnan(values)
    assert column.binary == binary
    assert (column.evidence(values)[~known] == 0).all()
    assert column.evidence(values)[known].any()
    assert column == Column.fit(values[known], y[known], 0.01)


@pytest.mark.parametrize("values", [[np.nan] * 4, [7.0] * 4, [1.0, 2.0, 3.0, np.nan]])
def test_a_column_without_variation_is_no_evidence(values):
    y = np.array([0, 0, 1, 1], dtype=np.int8)
    column = Column.fit(np.array(values, dtype=np.float32), y, 0.01)
    assert (column.evidence(np.array([0.0, 9.0], np.float32)) == 0).all()


def test_probabilities_of_repeated_inputs_are_calibrated():
    """Ten copies of one input: the sum of the evidence is ten times too large."""
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
    names = [f.name for f, varies in zip(train.features, train.varying, strict=True) if varies]
    assert table["term"].to_list() == names
    hr = table.row(0, named=True)
    assert 70 < hr["mean_without"] < hr["mean_with"] < 120
