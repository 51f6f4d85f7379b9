"""LSTM: input, forget and output gates around a cell that keeps what matters (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from flowsheet.models._batching import Batch, Layout, folded
from flowsheet.models._recurrent import RecurrentLayer, RecurrentModel, State
from flowsheet.models.base import MODELS

SHUT = -1e4
"""What shuts a gate wholly (i, f and o of an idle row): nothing is let in, kept or given out."""
STEP_ROWS = {"float32": 0.25, "bfloat16": 1.5}
"""What a step of the kernel costs beside its rows, in rows (measured on one core, 128 units)."""


class LSTMLayer(RecurrentLayer):
    """i, f, o = sigmoid(...); g = tanh(...); c(t) = f c(t-1) + i g; h(t) = o tanh(c(t))."""

    states = 2

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTM(inputs, hidden)

    def begin(self) -> None:
        """Forget gates start open (bias 1), so that gradients reach far back from the start (Gers et al. 2000)."""
        self.cell.all_weights[0][3].chunk(4)[1].fill_(1.0)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's own layer: one fused kernel on the CPU and on the GPU."""
        out, (h, c) = self.cell(x, (state[0][None], state[1][None]))
        return out, (h[0], c[0])

    @staticmethod
    def layout(precision: str) -> Layout:
        """Folded, for one call of the kernel."""
        return partial(folded, step_rows=STEP_ROWS[precision])

    def run_batch(self, x: Tensor, batch: Batch) -> Tensor:
        """The same kernel; of a folded batch in one call, with an input more, by which idle rows shut the gates."""
        steps, width = len(batch.widths), batch.widths[-1]
        if x.is_cuda or width < batch.widths[0]:
            return super().run_batch(x, batch)
        rows = torch.cat([x, batch.idle[:, None].to(x.dtype)], 1).view(steps, width, -1)
        weight, *others = self.cell.all_weights[0]
        shut = weight.new_tensor([SHUT, SHUT, 0.0, SHUT]).repeat_interleave(self.cell.hidden_size)
        weights = [torch.cat([weight, shut[:, None]], 1), *others]
        zero = weight.new_zeros(1, width, self.cell.hidden_size)
        out = torch.lstm(rows, (zero, zero), weights, True, 1, 0.0, True, False, False)[0]
        return out.flatten(0, 1)


@MODELS.register("lstm")
class LSTM(RecurrentModel):
    """Long short-term memory: additive memory, so that what was seen long ago still counts."""

    Layer = LSTMLayer
