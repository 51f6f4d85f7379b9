"""Batches in slabs, and the training loop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsheet.models._batching import Table, batches, cut, slabs_of, useful_lengths
from flowsheet.models._recurrent import RecurrentNet, RecurrentParams, slab_logits
from flowsheet.models._training import log_loss, masked_loss
from flowsheet.models.base import MODELS, Context, Model, Pruned
from flowsheet.models.lstm import LSTMLayer
from flowsheet.testing.models import toy_sequences
from flowsheet.windows.sequences import Sequences

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=150)
SMALL: dict[str, Any] = {"hidden": 6, "epochs": 5}


def table(lengths: list[int], seed: int = 0) -> Table:
    """Inputs are the number of the row and a random one."""
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    x = np.stack([np.arange(n), rng.normal(size=n)], axis=1).astype(np.float64)
    return Table(
        x=torch.from_numpy(x),
        y=torch.from_numpy(rng.integers(0, 2, n).astype(np.float64)),
        weight=torch.from_numpy((rng.random(n) < 0.7).astype(np.float64)),
        starts=np.cumsum([0, *lengths[:-1]]),
        lengths=np.array(lengths),
    )


@given(LENGTHS)
def test_slabs_follow_each_other_and_hold_every_stay(lengths: list[int]) -> None:
    ordered = np.sort(np.array(lengths))[::-1]
    slabs = cut(ordered)
    assert slabs[0][0] == 0
    assert slabs[-1][1] >= ordered[0]
    assert all(a[1] == b[0] for a, b in pairwise(slabs))
    for start, end, width in slabs:
        assert start < end
        assert width >= np.count_nonzero(ordered > start)


@given(LENGTHS)
@settings(max_examples=25)
def test_slabs_hold_every_row_once_at_its_place(lengths: list[int]) -> None:
    rows = table(lengths)
    rows = replace(rows, weight=torch.ones_like(rows.weight))
    slabs = slabs_of(rows, np.arange(len(lengths)))
    seen = torch.cat([slab.x[..., 0][slab.weight > 0] for slab in slabs])
    assert torch.equal(seen.sort().values, rows.x[:, 0])
    targets = torch.cat([slab.y[slab.weight > 0] for slab in slabs])
    assert torch.equal(targets, rows.y[seen.long()])


def test_slabs_waste_little() -> None:
    lengths = [*range(10, 60), *range(30, 50), 200]
    cells = sum(slab.y.numel() for slab in slabs_of(table(lengths), np.arange(len(lengths))))
    assert cells < 1.35 * sum(lengths)


def test_stays_without_rows_are_left_out() -> None:
    assert slabs_of(table([3, 0, 2]), np.array([1])) == []
    slabs = slabs_of(table([3, 0, 2]), np.array([1, 0, 2]))
    assert [slab.x.shape[1] for slab in slabs] == [2]


@given(st.integers(1, 100), st.integers(1, 40))
def test_batches_are_a_permutation(stays: int, size: int) -> None:
    drawn = list(batches(np.arange(stays), size, torch.Generator().manual_seed(1)))
    assert sorted(np.concatenate(drawn)) == list(range(stays))
    assert all(len(batch) == size for batch in drawn[:-1])


def test_rows_after_the_last_scored_one_teach_nothing() -> None:
    scored = np.array([True, False, True, False, False, False, True])
    assert useful_lengths(np.array([0, 4, 6, 7]), scored).tolist() == [3, 0, 1]


def test_slabs_give_the_gradient_of_the_padded_batch() -> None:
    lengths = [60, 3, 4]
    rows = table(lengths)
    params = RecurrentParams(hidden=5, dropout=0.0, input_dropout=0.0)
    net = RecurrentNet(LSTMLayer, 2, params).double()

    def gradients(slabs: list[Any]) -> list[torch.Tensor]:
        loss = masked_loss(slab_logits(net, slabs, torch.Generator()), slabs) / 10
        return list(torch.autograd.grad(loss, list(net.parameters())))

    stays = np.arange(len(lengths))
    longest = max(lengths)
    inside = torch.arange(longest)[:, None] < torch.tensor(lengths)
    at = torch.where(inside, torch.from_numpy(rows.starts) + torch.arange(longest)[:, None], 0)
    slabs = slabs_of(rows, stays)
    padded = replace(slabs[0], x=rows.x[at], y=rows.y[at], weight=rows.weight[at] * inside)
    assert len(slabs) > 1
    for ours, plain in zip(gradients(slabs), gradients([padded]), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-9)


def fit(train: Sequences, valid: Sequences, **changes: Any) -> Model:
    context = {key: changes.pop(key) for key in list(changes) if key in Context.__dataclass_fields__}
    cls = MODELS.get("lstm")
    model = cls(cls.Params(**{**SMALL, **changes}))
    model.fit(train, valid, Context(**{"seed": 1, **context}))
    return model


@pytest.fixture(scope="module")
def train() -> Sequences:
    return toy_sequences(80, 1, raw=False)


@pytest.fixture(scope="module")
def valid() -> Sequences:
    return toy_sequences(30, 2, raw=False)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("averaging", [0.0, 0.99])
@pytest.mark.parametrize("where", ["report", "progress"])
def test_a_killed_fit_goes_on_as_if_nothing_had_happened(
    train: Sequences, valid: Sequences, tmp_path: Path, where: str, averaging: float
) -> None:
    calls = []

    def kill(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(train, valid, checkpoints=tmp_path, averaging=averaging, **{where: kill})
    assert list(tmp_path.iterdir())
    epochs: list[int] = []
    again = fit(train, valid, checkpoints=tmp_path, averaging=averaging, progress=epochs.append)
    assert len(epochs) < SMALL["epochs"]
    undisturbed = fit(train, valid, averaging=averaging)
    assert again.predict_proba(valid).tobytes() == undisturbed.predict_proba(valid).tobytes()
    assert again.tables()["training_curve"].equals(undisturbed.tables()["training_curve"])
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_fit_is_not_taken(train: Sequences, valid: Sequences, tmp_path: Path) -> None:
    def kill(epoch: int, score: float) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(train, valid, checkpoints=tmp_path, report=kill)
    other = fit(train, valid, checkpoints=tmp_path, learning_rate=0.01)
    assert other.predict_proba(valid).tobytes() == fit(train, valid, learning_rate=0.01).predict_proba(valid).tobytes()
    assert list(tmp_path.iterdir()) == []


def test_a_pruned_fit_leaves_no_checkpoint(train: Sequences, valid: Sequences, tmp_path: Path) -> None:
    def give_up(epoch: int, score: float) -> None:
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        fit(train, valid, checkpoints=tmp_path, report=give_up)
    assert list(tmp_path.iterdir()) == []


def test_the_best_epoch_is_kept_and_patience_ends_training(train: Sequences, valid: Sequences) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.6])
    seen: list[np.ndarray] = []

    def score(y: np.ndarray, p: np.ndarray) -> float:
        seen.append(p)
        return next(scores)

    model = fit(train, valid, score=score, patience=2)
    assert model.tables()["training_curve"]["validation_score"].to_list() == [0.5, 0.7, 0.6, 0.6]
    assert np.array_equal(model.predict_proba(valid)[valid.scored], seen[1])


def test_a_score_that_cannot_be_computed_gives_way_to_log_loss(train: Sequences, valid: Sequences) -> None:
    model = fit(train, valid, score=lambda y, p: float("nan"))
    assert model.tables()["training_curve"]["validation_score"].max() < 0  # type: ignore[operator]


def test_nothing_global_changes(train: Sequences, valid: Sequences) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    model = fit(train, valid, threads=threads + 1)
    torch.manual_seed(99)
    assert fit(train, valid).predict_proba(valid).shape == model.predict_proba(valid).shape
    assert torch.get_num_threads() == threads
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(train, valid)
    assert torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(state)


def test_global_seed_does_not_matter(train: Sequences, valid: Sequences) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(fit(train, valid).predict_proba(valid))
    assert results[0].tobytes() == results[1].tobytes()
    assert fit(train, valid, seed=2).predict_proba(valid).tobytes() != results[0].tobytes()


def test_bfloat16_is_close_to_float32(train: Sequences, valid: Sequences) -> None:
    precise, coarse = (fit(train, valid, precision=p).predict_proba(valid) for p in ("float32", "bfloat16"))
    assert np.abs(precise - coarse).max() < 0.05


def test_log_loss() -> None:
    assert log_loss(np.array([1, 0], dtype=np.int8), np.array([0.5, 0.75])) == pytest.approx(1.5 * np.log(2))
