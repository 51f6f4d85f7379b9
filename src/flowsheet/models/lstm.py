"""LSTM: input, forget and output gates around a memory cell (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from flowsheet.models._batching import Batch, Layout, column_packed
from flowsheet.models._networks import RecurrentLayer, State
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models.base import MODELS

GATE_CLOSED_BIAS = -1e4
"""Closes a gate: added to i, f and o of a padding row, it resets state and output to 0."""
STEP_OVERHEAD = {"float32": 0.25, "bfloat16": 1.5}
"""The fixed cost of a step of the kernel, in rows (measured on one core, 128 units)."""


class LSTMLayer(RecurrentLayer):
    """i, f, o = sigmoid(...); g = tanh(...); c(t) = f c(t-1) + i g; h(t) = o tanh(c(t))."""

    states = 2

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(inputs, hidden)

    def reset_parameters(self) -> None:
        """Forget gates start open (bias 1), so that gradients reach far back (Gers et al. 2000)."""
        self.cell.all_weights[0][3].chunk(4)[1].fill_(1.0)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's own layer: one fused kernel on the CPU and on the GPU."""
        out, (h, c) = self.cell(x, (state[0][None], state[1][None]))
        return out, (h[0], c[0])

    @staticmethod
    def layout(precision: str) -> Layout:
        """Column-packed, for one call of the kernel."""
        return partial(column_packed, step_overhead=STEP_OVERHEAD[precision])

    def forward_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """The same kernel, for a column-packed batch in one call.

        One more input is 1 at padding rows and closes their gates.
        """
        steps, columns = len(batch.batch_sizes), batch.batch_sizes[-1]
        if x.is_cuda or columns < batch.batch_sizes[0]:
            return super().forward_batch(x, batch)
        is_padding = batch.padding[:, None].to(x.dtype)
        rows = torch.cat([x, is_padding], 1).view(steps, columns, -1)
        weight, *other_weights = self.cell.all_weights[0]
        closed = weight.new_tensor([GATE_CLOSED_BIAS, GATE_CLOSED_BIAS, 0.0, GATE_CLOSED_BIAS])
        padding_weight = closed.repeat_interleave(self.cell.hidden_size)[:, None]
        weights = [torch.cat([weight, padding_weight], 1), *other_weights]
        zero = weight.new_zeros(1, columns, self.cell.hidden_size)
        # Further arguments: has_biases, num_layers, dropout, train, bidirectional, batch_first.
        out = torch.lstm(rows, (zero, zero), weights, True, 1, 0.0, True, False, False)[0]
        return out.flatten(0, 1)


@MODELS.register("lstm")
class LSTM(RecurrentModel):
    """Long short-term memory: its memory is additive, so that early inputs keep their effect."""

    title = "LSTM"
    Layer = LSTMLayer
