"""Elman's recurrent network: the simplest one, whose memory fades (Elman 1990)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._cells import elman
from flowsheet.models._networks import LoopedLayer
from flowsheet.models._recurrent import RecurrentModel
from flowsheet.models.base import MODELS


class ElmanLayer(LoopedLayer):
    """h(t) = tanh(W x(t) + U h(t-1) + b)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.RNN(inputs, hidden)

    def run_loop(self, x: Tensor, h: Tensor, batch_sizes: list[int]) -> Tensor:
        """The loop over time on the CPU."""
        return elman(x, h, self.cell.all_weights[0], batch_sizes)


@MODELS.register("rnn")
class RNN(RecurrentModel):
    """Elman RNN: one tanh layer whose own last output is an input."""

    title = "RNN"
    Layer = ElmanLayer
