"""GRU: two gates, one state (Cho et al. 2014)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._cells import gru
from flowsheet.models._recurrent import RecurrentLayer, RecurrentModel, State
from flowsheet.models.base import MODELS


class GRULayer(RecurrentLayer):
    """r, z = sigmoid(...); n = tanh(...); h(t) = (1 - z) n + z h(t-1)."""

    states = 1

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, hidden)

    def begin(self) -> None:
        """Update gates start on the side of keeping (bias 1), as an LSTM's forget gates do."""
        self.cell.all_weights[0][3].chunk(3)[1].fill_(1.0)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Torch's kernel on the GPU, our loop on the CPU; the same weights and the same results."""
        if x.is_cuda:
            out, h = self.cell(x, state[0][None])
            return out, (h[0],)
        out = gru(x, state[0], self.cell.all_weights[0])
        return out, (out[-1],)


@MODELS.register("gru")
class GRU(RecurrentModel):
    """Gated recurrent unit: nearly what an LSTM remembers, with fewer weights."""

    Layer = GRULayer
