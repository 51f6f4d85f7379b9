"""The layouts of batches, and the training loop."""

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
from torch.nn.functional import binary_cross_entropy_with_logits

from flowsheet.models import _training
from flowsheet.models._batching import (
    POOL,
    Layout,
    Table,
    batches,
    folded,
    gather,
    packed,
    useful_lengths,
)
from flowsheet.models._recurrent import RecurrentLayer, RecurrentNet, RecurrentParams, dropout_masks
from flowsheet.models._training import Trainer
from flowsheet.models.base import MODELS, Context, Model, Pruned
from flowsheet.models.gru import GRULayer
from flowsheet.models.lstm import LSTMLayer
from flowsheet.models.rnn import ElmanLayer
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


def as_dtype(rows: Table, dtype: torch.dtype) -> Table:
    return replace(rows, **{name: getattr(rows, name).to(dtype) for name in ("x", "y", "weight")})


LAYOUTS = pytest.mark.parametrize("layout", [packed, folded])


@LAYOUTS
@given(LENGTHS)
@settings(max_examples=50)
def test_a_stays_rows_follow_each_other_and_meet_no_other_stay(
    layout: Layout, lengths: list[int]
) -> None:
    ordered = np.sort(np.array(lengths))[::-1]
    stay = np.repeat(np.arange(len(ordered)), ordered)
    step = np.concatenate([np.arange(n) for n in ordered])
    place, widths = layout(ordered, stay, step)
    assert all(a >= b > 0 for a, b in pairwise(widths))
    assert len(set(place.tolist())) == len(place) <= sum(widths)
    first = np.cumsum([0, *widths[:-1]])
    when = np.searchsorted(first, place, side="right") - 1
    column = place - first[when]
    assert (column >= 0).all()
    assert (column < np.array(widths)[when]).all()
    for s in range(len(ordered)):
        assert len(set(column[stay == s])) == 1
        assert (np.diff(when[stay == s]) == 1).all()
    order = np.lexsort([when, column])
    one_column, another_stay = np.diff(column[order]) == 0, np.diff(stay[order]) != 0
    assert (np.diff(when[order])[one_column & another_stay] > 1).all()  # an idle row between


@LAYOUTS
@given(LENGTHS)
@settings(max_examples=25)
def test_a_batch_holds_every_row_once_with_its_stay(layout: Layout, lengths: list[int]) -> None:
    rows = table(lengths)
    rows = replace(rows, weight=torch.ones_like(rows.weight))
    batch = gather(rows, np.arange(len(lengths)), layout)
    assert torch.equal(batch.weight > 0, ~batch.idle)
    seen = batch.x[~batch.idle, 0]
    assert torch.equal(seen.sort().values, rows.x[:, 0])
    assert torch.equal(batch.y[~batch.idle], rows.y[seen.long()])
    ordered = np.argsort(-rows.lengths, kind="stable")[batch.stay[~batch.idle].numpy()]
    assert np.array_equal(ordered, np.repeat(np.arange(len(lengths)), lengths)[seen.long().numpy()])


def test_little_is_idle_and_shapes_recur() -> None:
    rng = np.random.default_rng(1)
    drawn = [np.sort(rng.gamma(3, 12, 64).astype(int) + 1).tolist() for _ in range(100)]
    batches_of = [gather(table(lengths), np.arange(64), folded) for lengths in drawn]
    rows = sum(len(batch.y) for batch in batches_of)
    assert rows < 1.1 * sum(map(sum, drawn))
    assert len({(len(batch.widths), batch.widths[0]) for batch in batches_of}) < 50
    assert not any(gather(table(lengths), np.arange(64)).idle.any() for lengths in drawn[:5])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400), st.integers(1, 40))
def test_batches_hold_every_stay_with_rows_once(lengths: list[int], size: int) -> None:
    drawn = batches(np.array(lengths), size, torch.Generator().manual_seed(1))
    together = np.concatenate(drawn) if drawn else np.array([])
    assert sorted(together) == list(np.flatnonzero(lengths))
    assert sum(len(batch) < size for batch in drawn) <= 1


def test_batches_hold_stays_of_like_length_and_pools_are_random() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 64 * POOL * 5)
    drawn = batches(lengths, 64, torch.Generator().manual_seed(1))
    assert np.mean([lengths[batch].std() for batch in drawn]) < 0.5 * lengths.std()
    means = [
        np.mean(lengths[np.concatenate(drawn[i : i + POOL])]) for i in range(0, len(drawn), POOL)
    ]
    assert np.std(means) < 0.1 * lengths.std()


def test_rows_after_the_last_scored_one_teach_nothing() -> None:
    scored = np.array([True, False, True, False, False, False, True])
    assert useful_lengths(np.array([0, 4, 6, 7]), scored).tolist() == [3, 0, 1]


KINDS_OF_LAYER = pytest.mark.parametrize(
    ("layer", "layout"),
    [(LSTMLayer, folded), (LSTMLayer, packed), (GRULayer, packed), (ElmanLayer, packed)],
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@KINDS_OF_LAYER
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_batch_gives_the_gradient_of_its_stays_alone(
    layer: type[RecurrentLayer], layout: Layout, dtype: torch.dtype
) -> None:
    rows = table([60, *range(3, 40)])
    rows = as_dtype(replace(rows, x=rows.x / rows.x.max(0).values), dtype)
    params = RecurrentParams(hidden=5, embedding=4, layers=2, dropout=0.0, input_dropout=0.0)
    net = RecurrentNet(layer, 2, params).to(dtype)

    def gradients(stays: list[int]) -> list[torch.Tensor]:
        batch = gather(rows, np.array(stays), layout)
        logits = net.train_logits(batch, torch.Generator())
        loss = binary_cross_entropy_with_logits(logits, batch.y, batch.weight, reduction="sum")
        return list(torch.autograd.grad(loss, list(net.parameters())))

    stays = range(len(rows.lengths))
    assert (layout is folded) == bool(gather(rows, np.array(stays), layout).idle.any())
    alone = zip(*(gradients([stay]) for stay in stays), strict=True)
    for together, parts in zip(gradients([*stays]), alone, strict=True):
        torch.testing.assert_close(
            together, torch.stack(parts).sum(0), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_nothing_passes_an_idle_row(precision: str) -> None:
    """Bit for bit: neither memory forward nor a gradient back, however loud the stay before was."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    torch.manual_seed(0)
    layer, rows = LSTMLayer(2, 16).to(dtype), table([30, 25, 20, *[9] * 40])
    rows = as_dtype(replace(rows, x=rows.x / rows.x.max(0).values), dtype)
    batch = gather(rows, np.arange(len(rows.lengths)), folded)
    seen, kept = [], []
    for loud in (1.0, 1e3):
        even = batch.stay % 2 == 0
        x = (batch.x * torch.where(even, loud, 1.0)[:, None].to(dtype)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = layer.run_batch(x, batch)
        out[~even & ~batch.idle].sum().backward()
        assert x.grad is not None
        assert not x.grad[even | batch.idle].any()
        assert not out[batch.idle].any()
        seen.append(out[~even & ~batch.idle])
        kept.append(x.grad[~even])
    assert torch.equal(*seen)
    assert torch.equal(*kept)


def test_a_stay_keeps_its_dropout_for_all_its_steps() -> None:
    rows = replace(table([40, 12, 3]), x=torch.ones(55, 2, dtype=torch.float64))
    net = RecurrentNet(
        LSTMLayer, 2, RecurrentParams(hidden=5, dropout=0.5, input_dropout=0.5)
    ).double()
    batch = gather(rows, np.arange(3), folded)
    for mask in dropout_masks(net, batch, torch.Generator().manual_seed(3)):
        assert (
            len({(int(stay), *row.tolist()) for stay, row in zip(batch.stay, mask, strict=True)})
            == 3
        )
        assert set(mask.unique().tolist()) <= {0.0, 2.0}


def fit(train: Sequences, valid: Sequences, **changes: Any) -> Model:
    context = {
        key: changes.pop(key) for key in list(changes) if key in Context.__dataclass_fields__
    }
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
@pytest.mark.parametrize("where", ["report_score", "progress"])
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


def test_a_checkpoint_of_another_fit_is_not_taken(
    train: Sequences, valid: Sequences, tmp_path: Path
) -> None:
    def kill(epoch: int, score: float) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(train, valid, checkpoints=tmp_path, report_score=kill)
    other = fit(train, valid, checkpoints=tmp_path, learning_rate=0.01)
    assert (
        other.predict_proba(valid).tobytes()
        == fit(train, valid, learning_rate=0.01).predict_proba(valid).tobytes()
    )
    assert list(tmp_path.iterdir()) == []


def test_a_pruned_fit_leaves_no_checkpoint(
    train: Sequences, valid: Sequences, tmp_path: Path
) -> None:
    def give_up(epoch: int, score: float) -> None:
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        fit(train, valid, checkpoints=tmp_path, report_score=give_up)
    assert list(tmp_path.iterdir()) == []


def test_the_epoch_with_the_least_log_loss_is_kept_and_patience_ends_training(
    train: Sequences, valid: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the monitored metric says."""
    losses, scores = iter([0.7, 0.4, 0.5, 0.4, 0.1]), iter([0.9, 0.2, 0.3, 0.4, 0.5])
    seen: list[np.ndarray] = []

    def loss(y: np.ndarray, p: np.ndarray) -> float:
        seen.append(p)
        return next(losses)

    monkeypatch.setattr(_training, "log_loss", loss)
    model = fit(train, valid, score=lambda y, p: next(scores), patience=2)
    curve = model.tables()["training_curve"]
    assert curve["validation_log_loss"].to_list() == [0.7, 0.4, 0.5, 0.4]
    assert curve["validation_score"].to_list() == [0.9, 0.2, 0.3, 0.4]
    assert np.array_equal(model.predict_proba(valid)[valid.scored], seen[1])


def test_a_batch_counts_by_the_square_root_of_its_rows() -> None:
    """With plain gradient descent, twice the same rows move the weights by the root of two as far."""

    def moved(copies: int) -> float:
        net = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(net.weight)
        context, params = Context(seed=1), RecurrentParams(clip=1e9)
        trainer = Trainer(
            net, params, lambda batch, _: net(batch.x)[:, 0][None], lambda _: np.zeros(0), context
        )
        trainer.optimiser = torch.optim.SGD(net.parameters(), 1.0)
        rows = 3 * copies
        ones = torch.ones(rows)
        loss = trainer.step(
            gather(
                Table(ones[:, None], ones, ones, np.array([0]), np.array([rows])), np.array([0])
            ),
            3.0,
        )
        assert float(loss) == pytest.approx(
            copies * np.log(2), rel=1e-6
        )  # the share of the epoch's mean
        return float(net.weight.detach())

    assert moved(1) == pytest.approx(0.5, rel=1e-6)
    assert moved(2) == pytest.approx(0.5 * np.sqrt(2), rel=1e-6)


def test_a_score_that_cannot_be_computed_gives_way_to_log_loss(
    train: Sequences, valid: Sequences
) -> None:
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
    precise, coarse = (
        fit(train, valid, precision=p).predict_proba(valid) for p in ("float32", "bfloat16")
    )
    assert np.abs(precise - coarse).max() < 0.05
