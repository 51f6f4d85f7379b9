"""GRU: two gates, one state (Cho et al. 2014)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._cells import gru
from flowsheet.models._recurrent import LoopedLayer, RecurrentModel
from flowsheet.models.base import MODELS


class GRULayer(LoopedLayer):
    """r, z = sigmoid(...); n = tanh(...); h(t) = (1 - z) n + z h(t-1)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRU(inputs, hidden)

    def begin(self) -> None:
        """Update gates start on the side of keeping (bias 1), as an LSTM's forget gates do."""
        self.cell.all_weights[0][3].chunk(3)[1].fill_(1.0)

    def loop(self, x: Tensor, h: Tensor, widths: list[int]) -> Tensor:
        """The loop over time on the CPU."""
        return gru(x, h, self.cell.all_weights[0], widths)


@MODELS.register("gru")
class GRU(RecurrentModel):
    """Gated recurrent unit: nearly what an LSTM remembers, with fewer weights."""

    Layer = GRULayer
