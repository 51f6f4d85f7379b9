"""Recurrent layers equal torch's, and stays of one batch do not affect each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from flowsheet.models._batching import Layout, column_packed, gather, packed
from flowsheet.models._networks import RecurrentLayer, RecurrentNet, RecurrentParams, dropout_masks
from flowsheet.models._training import usable_precision
from flowsheet.models.gru import GRULayer
from flowsheet.models.lstm import LSTMLayer
from flowsheet.models.rnn import ElmanLayer
from tests.models.rows import scaled_stay_rows, stay_rows

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@pytest.mark.parametrize(
    ("layer", "torch_layer"), [(LSTMLayer, nn.LSTM), (GRULayer, nn.GRU), (ElmanLayer, nn.RNN)]
)
def test_a_layer_equals_torchs(layer: type[RecurrentLayer], torch_layer: type[nn.RNNBase]) -> None:
    """Outputs, states and all gradients, in two parts as in one."""
    torch.manual_seed(0)
    ours = layer(4, 6).double()  # type: ignore[call-arg]
    reference = torch_layer(4, 6).double()
    reference.load_state_dict(ours.cell.state_dict())  # type: ignore[union-attr]
    x = torch.randn(9, 3, 4, dtype=torch.float64, requires_grad=True)
    state = tuple(
        torch.randn(3, 6, dtype=torch.float64, requires_grad=True) for _ in range(layer.states)
    )
    weight = torch.randn(9, 3, 6, dtype=torch.float64)
    first_out, middle_state = ours(x[:5], state)
    second_out, last_state = ours(x[5:], middle_state)
    out = torch.cat([first_out, second_out])
    torch_state = tuple(part[None] for part in state)
    expected, expected_state = reference(x, torch_state if layer.states == 2 else torch_state[0])
    torch.testing.assert_close(out, expected)
    expected_h = expected_state[0] if layer.states == 2 else expected_state
    torch.testing.assert_close(last_state[0], expected_h[0])
    gradients = torch.autograd.grad((out * weight).sum(), [x, *state, *ours.parameters()])
    expected_gradients = torch.autograd.grad(
        (expected * weight).sum(), [x, *state, *reference.parameters()]
    )
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize(
    ("layer", "layout"),
    [
        (LSTMLayer, column_packed),
        (LSTMLayer, packed),
        (GRULayer, packed),
        (ElmanLayer, packed),
    ],
)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_gradient_of_a_batch_is_the_sum_over_its_stays(
    layer: type[RecurrentLayer], layout: Layout, dtype: torch.dtype
) -> None:
    rows = scaled_stay_rows([60, *range(3, 40)], dtype)
    params = RecurrentParams(hidden=5, embedding=4, layers=2, dropout=0.0, input_dropout=0.0)
    net = RecurrentNet(layer, 2, params).to(dtype)

    def gradients(stays: list[int]) -> list[torch.Tensor]:
        batch = gather(rows, np.array(stays), layout)
        logits = net.train_logits(batch, torch.Generator())
        loss = binary_cross_entropy_with_logits(logits, batch.y, batch.weight, reduction="sum")
        return list(torch.autograd.grad(loss, list(net.parameters())))

    stays = list(range(len(rows.lengths)))
    assert (layout is column_packed) == bool(gather(rows, np.array(stays), layout).padding.any())
    single_gradients = zip(*(gradients([stay]) for stay in stays), strict=True)
    for of_batch, of_stays in zip(gradients(stays), single_gradients, strict=True):
        total = torch.stack(of_stays).sum(0)
        torch.testing.assert_close(of_batch, total, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_padding_rows_separate_stays_to_the_last_bit(precision: str) -> None:
    """Neither state forward nor gradient back, however large the inputs of the stay before."""
    if precision == "bfloat16" and usable_precision(precision, CPU) == "float32":
        pytest.skip("this processor has no kernels for bfloat16")
    dtype = torch.float64 if precision == "float64" else torch.float32
    torch.manual_seed(0)
    layer = LSTMLayer(2, 16).to(dtype)
    rows = scaled_stay_rows([30, 25, 20, *[9] * 40], dtype)
    batch = gather(rows, np.arange(len(rows.lengths)), column_packed)
    is_even = batch.stay % 2 == 0
    is_odd_row = ~is_even & ~batch.padding
    outputs, gradients = [], []
    for factor in (1.0, 1e3):
        factors = torch.where(is_even, factor, 1.0)[:, None].to(dtype)
        x = (batch.x * factors).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = layer.forward_batch(x, batch)
        out[is_odd_row].sum().backward()
        assert x.grad is not None
        assert not x.grad[is_even | batch.padding].any()
        assert not out[batch.padding].any()
        outputs.append(out[is_odd_row])
        gradients.append(x.grad[~is_even])
    assert torch.equal(*outputs)
    assert torch.equal(*gradients)


def test_dropout_is_the_same_at_all_steps_of_a_stay() -> None:
    rows = replace(stay_rows([40, 12, 3]), x=torch.ones(55, 2, dtype=torch.float64))
    params = RecurrentParams(hidden=5, dropout=0.5, input_dropout=0.5)
    net = RecurrentNet(LSTMLayer, 2, params).double()
    batch = gather(rows, np.arange(3), column_packed)
    for mask in dropout_masks(net, batch, torch.Generator().manual_seed(3)):
        stays_and_masks = zip(batch.stay.tolist(), mask.tolist(), strict=True)
        assert len({(stay, *of_row) for stay, of_row in stays_and_masks}) == 3
        assert set(mask.unique().tolist()) <= {0.0, 2.0}
