"""Every model is trained from shards, without having all rows in memory, as from an array."""

import gc
import weakref
from dataclasses import replace
from itertools import pairwise

import lightgbm
import numpy as np
import pytest
import torch

from flowsheet.cohort.time_grid import row_offsets
from flowsheet.models import _binned_rows, _row_matrix, _row_pools
from flowsheet.models._row_matrix import RowMatrix, iterate_chunks, prefetched
from flowsheet.models._rows import Rows, choose_inputs
from flowsheet.models.base import MODELS, Context
from flowsheet.models.gradient_boosting import GradientBoosting
from flowsheet.models.logistic_regression import LogisticRegression
from flowsheet.models.news2 import NEWS2
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows import scaling
from flowsheet.windows.sequences import Sequences
from flowsheet.windows.shards import ShardedInputs, write_shard
from tests.models.test_conformance import _suite

AS_LSTM = ("gru", "rnn", "stack")
"""Models that read their inputs as another one does."""


def put_into_shards(sequences, folder):
    """The sequences, with their inputs in one shard."""
    folder.mkdir()
    rows = pairwise(sequences.offsets)
    write_shard(folder, [sequences.x[start:stop] for start, stop in rows])
    stays = np.arange(len(sequences))
    x = ShardedInputs(
        folders=(folder,),
        shard=np.zeros_like(stays),
        frame=stays,
        offsets=row_offsets(sequences.lengths),
        stored_columns=sequences.x.shape[1],
    )
    return replace(sequences, x=x)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks, chunks, batches and pools of few rows; no more than these may be decoded at once."""
    monkeypatch.setattr("flowsheet.windows.sequences.Sequences.blocks.__defaults__", (40,))
    monkeypatch.setattr(scaling, "SAMPLE_ROWS", 100)
    monkeypatch.setattr(_row_matrix, "CHUNK_ROWS", 64)
    monkeypatch.setattr(_row_pools, "POOL_ROWS", 128)
    monkeypatch.setattr(_binned_rows._RowSequence, "batch_size", 64)

    read_stays = ShardedInputs.read_stays

    def read_few_stays(self, stays):
        x = read_stays(self, stays)
        assert len(x) <= 300, "all rows are decoded at once"
        return x

    monkeypatch.setattr(ShardedInputs, "read_stays", read_few_stays)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind in AS_LSTM else [])
        for kind in MODELS.names()
    ],
)
def test_from_shards_a_model_is_the_same(kind, tmp_path, small_blocks):
    """Fit, predictions and contributions, bit for bit."""
    suite = _suite(kind)()
    parts = [suite.make_toy(stays, seed) for stays, seed in ((60, 1), (30, 2), (30, 3))]
    sharded = [put_into_shards(part, tmp_path / str(i)) for i, part in enumerate(parts)]
    rows = np.array([1, 5, 40])
    results = []
    for train, valid, test in (parts, sharded):
        model = suite.fit(train, valid)
        results.append((model.predict_proba(test), model.explain(test, rows).values))
    for in_memory, from_shards in zip(*results, strict=True):
        assert in_memory.tobytes() == from_shards.tobytes()


def test_binned_rows_are_those_of_lightgbms_own_matrix():
    """Also where the bins are chosen on a sample of the rows."""
    toy = toy_sequences(60, 1, raw=True)
    rows = np.flatnonzero(toy.scored)
    matrix = RowMatrix(toy, rows, toy.x.shape[1], lambda stays, chosen: stays.x[chosen])
    settings = {
        "objective": "binary",
        "min_data_in_leaf": 5,
        "bin_construct_sample_cnt": 150,
        "data_random_seed": 3,
        "verbosity": -1,
    }
    labelled = Rows(matrix, toy.y[rows], np.zeros_like(rows))
    models = []
    for data in (
        _binned_rows.bin_rows(labelled, settings),
        lightgbm.Dataset(toy.x[rows], toy.y[rows], params=settings),
    ):
        booster = lightgbm.Booster(settings, data)
        for _ in range(10):
            booster.update()
        models.append(booster.model_to_string())
    assert models[0] == models[1]
    assert models[0].count("Tree=") == 10


def fit_trees(train, valid):
    """The trees, and the predictions of the validation rows."""
    model = GradientBoosting(GradientBoosting.Params(rounds=30))
    model.fit(train, valid, Context(seed=1))
    return model.booster.model_to_string(), model.curve, model.predict_proba(valid)


def test_validation_rows_are_binned_in_parts_without_any_difference(monkeypatch):
    train, valid = (toy_sequences(60, seed, raw=True) for seed in (1, 2))
    trees, curve, _ = fit_trees(train, valid)
    monkeypatch.setattr(_binned_rows, "PART_ROWS", 50)
    assert fit_trees(train, valid)[:2] == (trees, curve)


def test_of_many_rows_every_column_is_dense(monkeypatch):
    train, valid = (toy_sequences(60, seed, raw=True) for seed in (1, 2))
    sparse, _, p = fit_trees(train, valid)
    monkeypatch.setattr(_binned_rows, "DENSE_ROWS", 1)
    dense, _, p_dense = fit_trees(train, valid)
    assert "[is_enable_sparse: 1]" in sparse
    assert "[is_enable_sparse: 0]" in dense
    np.testing.assert_allclose(p_dense, p, atol=1e-3)


def test_bins_are_chosen_without_computing_the_rows_between_those_of_the_sample(capfd):
    toy = toy_sequences(60, 1, raw=True)
    computed = []

    def compute(stays, rows):
        computed.append(len(rows))
        return stays.x[rows]

    matrix = RowMatrix(toy, np.flatnonzero(toy.scored), toy.x.shape[1], compute)
    labelled = Rows(matrix, toy.y[matrix.rows], np.zeros(len(matrix)))
    _binned_rows.bin_rows(labelled, {"bin_construct_sample_cnt": 10, "verbosity": -1})
    assert sum(computed) == 10 + len(matrix)
    assert capfd.readouterr() == ("", "")  # LightGBM finds the sample small


def test_binned_rows_keep_nothing_of_what_they_were_computed_from(monkeypatch):
    made = []

    class Recorded(_binned_rows._RowSequence):
        def __init__(self, matrix):
            super().__init__(matrix)
            made.append(weakref.ref(self))

    monkeypatch.setattr(_binned_rows, "_RowSequence", Recorded)
    toy = toy_sequences(60, 1, raw=True)
    rows = np.flatnonzero(toy.scored)
    matrix = RowMatrix(toy, rows, toy.x.shape[1], lambda stays, chosen: stays.x[chosen])
    labelled = Rows(matrix, toy.y[rows], np.zeros_like(rows))
    binned = _binned_rows.bin_rows(labelled, {"verbosity": -1})
    gc.collect()
    assert [sequence() for sequence in made] == [None]
    assert binned.num_data() == len(rows)


def test_inputs_that_are_the_same_in_all_training_rows_are_left_out(tmp_path):
    for raw in (True, False):
        toy = toy_sequences(60, 1, raw)
        x = np.asarray(toy.x)
        is_same = [len(np.unique(column)) == 1 for column in x.T]
        assert toy.varying.tolist() == [not same for same in is_same]
        assert 0 < sum(is_same) < len(is_same)
        folder = tmp_path / str(raw)
        folder.mkdir()
        toy.save(folder)
        assert Sequences.load(folder).varying.tolist() == toy.varying.tolist()
    chosen = np.flatnonzero(toy.varying).tolist()
    assert choose_inputs(toy, LogisticRegression.Params()) == chosen
    nothing_varies = replace(toy, x=np.ones_like(x))
    everything = list(range(x.shape[1]))
    assert choose_inputs(nothing_varies, LogisticRegression.Params()) == everything
    assert choose_inputs(toy, NEWS2.Params()) == everything


def test_chunks_are_of_equal_size_wherever_stays_end():
    toy = toy_sequences(20, 1, raw=False)
    rows = np.flatnonzero(toy.scored)
    matrix = RowMatrix(toy, rows, toy.x.shape[1], lambda stays, chosen: stays.x[chosen])
    chunks = list(matrix.chunks(17))
    assert [part.start for part, _ in chunks] == list(range(0, len(rows), 17))
    assert np.concatenate([x for _, x in chunks]).tobytes() == toy.x[rows].tobytes()
    assert np.asarray(matrix).tobytes() == toy.x[rows].tobytes()
    order = np.array([7, 3, 3, 50])
    assert matrix.take(order).tobytes() == toy.x[rows][order].tobytes()
    assert len(list(iterate_chunks(matrix))) == 1


def test_an_error_on_reading_ahead_is_raised_in_its_turn():
    def read():
        yield 1
        raise ValueError("damaged")

    items = prefetched(read())
    assert next(items) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(items)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_on_a_gpu_pinned_batches_in_bfloat16_give_nearly_the_model_of_the_cpu(
    kind, tmp_path, monkeypatch
):
    """Batches are read from shards, pinned, copied while others are computed with."""
    train = put_into_shards(toy_sequences(60, 1, raw=False), tmp_path / "train")
    valid = put_into_shards(toy_sequences(30, 2, raw=False), tmp_path / "valid")
    pinned = []
    pin = torch.Tensor.pin_memory

    def count_pinned(x, *arguments):
        pinned.append(x.dtype)
        return pin(x, *arguments)

    monkeypatch.setattr(torch.Tensor, "pin_memory", count_pinned)
    cls = MODELS.get(kind)
    fits = []
    for device, precision in (("cpu", "float32"), ("cuda", "bfloat16")):
        model = cls(cls.Params(epochs=3, hidden=16, precision=precision))
        model.fit(train, valid, Context(seed=1, device=device))
        fits.append(model.predict_proba(train))
    assert set(pinned) == {torch.bfloat16}
    np.testing.assert_allclose(*fits, atol=0.05)
