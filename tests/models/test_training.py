"""The training loop: checkpoints, early stopping, weights of batches, and no global effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowsheet.models import _training
from flowsheet.models._batching import StayRows, gather
from flowsheet.models._networks import RecurrentParams
from flowsheet.models._training import Trainer
from flowsheet.models.base import MODELS, Context, Model, Pruned
from flowsheet.testing.sequences import toy_sequences
from flowsheet.windows.sequences import Sequences

SMALL: dict[str, Any] = {"hidden": 6, "epochs": 5}


def fit(train: Sequences, valid: Sequences, params: dict[str, Any], **context: Any) -> Model:
    cls = MODELS.get("lstm")
    model = cls(cls.Params(**{**SMALL, **params}))
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


@pytest.mark.parametrize("ema_decay", [0.0, 0.99])
@pytest.mark.parametrize("callback", ["report_score", "progress"])
def test_a_killed_fit_resumes_and_gives_the_same_result(
    train: Sequences, valid: Sequences, tmp_path: Path, callback: str, ema_decay: float
) -> None:
    calls = []

    def kill(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Killed

    params = {"ema_decay": ema_decay}
    with pytest.raises(Killed):
        fit(train, valid, params, checkpoints=tmp_path, **{callback: kill})
    assert list(tmp_path.iterdir())
    lines: list[str] = []
    resumed = fit(train, valid, params, checkpoints=tmp_path, progress=lines.append)
    assert len(lines) < SMALL["epochs"]
    uninterrupted = fit(train, valid, params)
    assert resumed.predict_proba(valid).tobytes() == uninterrupted.predict_proba(valid).tobytes()
    assert resumed.tables()["training_curve"].equals(uninterrupted.tables()["training_curve"])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_checkpoint_is_noticed_and_the_fit_begins_anew(
    train: Sequences, valid: Sequences, tmp_path: Path
) -> None:
    def kill(epoch: int, score: float) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(train, valid, {}, checkpoints=tmp_path, report_score=kill)
    (checkpoint,) = tmp_path.iterdir()
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    lines: list[str] = []
    again = fit(train, valid, {}, checkpoints=tmp_path, progress=lines.append)
    assert lines[0] == "warning: a checkpoint was changed; the fit begins anew"
    uninterrupted = fit(train, valid, {})
    assert again.predict_proba(valid).tobytes() == uninterrupted.predict_proba(valid).tobytes()


def test_a_checkpoint_of_another_fit_is_ignored(
    train: Sequences, valid: Sequences, tmp_path: Path
) -> None:
    def kill(epoch: int, score: float) -> None:
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(train, valid, {}, checkpoints=tmp_path, report_score=kill)
    params = {"learning_rate": 0.01}
    other = fit(train, valid, params, checkpoints=tmp_path).predict_proba(valid)
    assert other.tobytes() == fit(train, valid, params).predict_proba(valid).tobytes()
    assert list(tmp_path.iterdir()) == []


def test_a_pruned_fit_leaves_no_checkpoint(
    train: Sequences, valid: Sequences, tmp_path: Path
) -> None:
    def prune(epoch: int, score: float) -> None:
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        fit(train, valid, {}, checkpoints=tmp_path, report_score=prune)
    assert list(tmp_path.iterdir()) == []


def test_the_epoch_with_the_lowest_log_loss_is_used_and_patience_ends_training(
    train: Sequences, valid: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the monitored metric."""
    losses, scores = iter([0.7, 0.4, 0.5, 0.4, 0.1]), iter([0.9, 0.2, 0.3, 0.4, 0.5])
    predictions: list[np.ndarray] = []

    def loss(y: np.ndarray, p: np.ndarray) -> float:
        predictions.append(p)
        return next(losses)

    monkeypatch.setattr(_training, "log_loss", loss)
    model = fit(train, valid, {"patience": 2}, score=lambda y, p: next(scores))
    curve = model.tables()["training_curve"]
    assert curve["validation_log_loss"].to_list() == [0.7, 0.4, 0.5, 0.4]
    assert curve["validation_score"].to_list() == [0.9, 0.2, 0.3, 0.4]
    assert np.array_equal(model.predict_proba(valid)[valid.scored], predictions[1])


@pytest.mark.parametrize(("copies", "expected"), [(1, 0.5), (2, 0.5 * np.sqrt(2))])
def test_a_batch_is_weighted_by_the_square_root_of_its_rows(copies: int, expected: float) -> None:
    """With plain gradient descent, twice the same rows change the weights by a factor of root 2."""
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    trainer = Trainer(
        net,
        RecurrentParams(max_gradient_norm=1e9),
        compute_logits=lambda batch, _: net(batch.x)[:, 0][None],
        predict=lambda _: np.zeros(0),
        context=Context(seed=1),
    )
    trainer.optimiser = torch.optim.SGD(net.parameters(), 1.0)
    ones = torch.ones(3 * copies)
    rows = StayRows(ones[:, None], ones, ones, np.array([0]), np.array([len(ones)]))
    share_of_mean_loss = trainer.step(gather(rows, np.array([0])), mean_scored_rows=3.0)
    assert float(share_of_mean_loss) == pytest.approx(copies * np.log(2), rel=1e-6)
    assert float(net.weight.detach()) == pytest.approx(expected, rel=1e-6)


def test_a_score_that_cannot_be_computed_is_replaced_by_minus_log_loss(
    train: Sequences, valid: Sequences
) -> None:
    model = fit(train, valid, {}, score=lambda y, p: float("nan"))
    assert model.tables()["training_curve"]["validation_score"].max() < 0  # type: ignore[operator]


def test_training_changes_no_global_state(train: Sequences, valid: Sequences) -> None:
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        fit(train, valid, {}, threads=threads + 1)
        assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_global_seed_does_not_matter(train: Sequences, valid: Sequences) -> None:
    results = []
    for global_seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            results.append(fit(train, valid, {}).predict_proba(valid))
    assert results[0].tobytes() == results[1].tobytes()
    assert fit(train, valid, {}, seed=2).predict_proba(valid).tobytes() != results[0].tobytes()


def test_bfloat16_is_close_to_float32(train: Sequences, valid: Sequences) -> None:
    float32, bfloat16 = (
        fit(train, valid, {"precision": precision}).predict_proba(valid)
        for precision in ("float32", "bfloat16")
    )
    assert np.abs(float32 - bfloat16).max() < 0.05


def test_on_a_processor_without_bfloat16_the_fit_is_in_float32(
    train: Sequences, valid: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    float32, bfloat16 = (
        fit(train, valid, {"precision": precision}).predict_proba(valid)
        for precision in ("float32", "bfloat16")
    )
    assert float32.tobytes() == bfloat16.tobytes()


@pytest.mark.parametrize("params", [{"layers": 2}, {"embedding": 0}])
def test_every_lstm_can_be_fitted_in_bfloat16(
    train: Sequences, valid: Sequences, params: dict[str, int]
) -> None:
    model = fit(train, valid, {"precision": "bfloat16", "epochs": 1, **params})
    assert np.isfinite(model.predict_proba(valid)).all()
