"""GRU: two gates, one state (Cho et al. 2014)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._cells import gru
from flowsheet.models._networks import LoopedLayer
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models.base import MODELS


class GRULayer(LoopedLayer):
    """r, z = sigmoid(...); n = tanh(...); h(t) = (1 - z) n + z h(t-1)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, hidden)

    def reset_parameters(self) -> None:
        """Update gates start by keeping the state (bias 1), like an LSTM's forget gates."""
        self.cell.all_weights[0][3].chunk(3)[1].fill_(1.0)

    def run_loop(self, x: Tensor, h: Tensor, batch_sizes: list[int]) -> Tensor:
        """The loop over time on the CPU."""
        return gru(x, h, self.cell.all_weights[0], batch_sizes)


@MODELS.register("gru")
class GRU(RecurrentModel):
    """Gated recurrent unit: remembers nearly as much as an LSTM, with fewer weights."""

    title = "GRU"
    Layer = GRULayer
