"""Elman's recurrent network: the plainest one, whose memory fades (Elman 1990)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._cells import elman
from flowsheet.models._recurrent import RecurrentLayer, RecurrentModel, State
from flowsheet.models.base import MODELS


class ElmanLayer(RecurrentLayer):
    """h(t) = tanh(W x(t) + U h(t-1) + b)."""

    states = 1

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.RNN(inputs, hidden)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's kernel on the GPU, our loop on the CPU; the same weights and the same results."""
        if x.is_cuda:
            out, h = self.cell(x, state[0][None])
            return out, (h[0],)
        out = elman(x, state[0], self.cell.all_weights[0])
        return out, (out[-1],)


@MODELS.register("rnn")
class RNN(RecurrentModel):
    """Elman RNN: one tanh layer that is fed its own last output."""

    Layer = ElmanLayer
