"""LSTM: input, forget and output gates around a cell that keeps what matters (Hochreiter and Schmidhuber 1997)."""

from __future__ import annotations

from torch import Tensor, nn

from flowsheet.models._recurrent import RecurrentLayer, RecurrentModel, State
from flowsheet.models.base import MODELS


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


@MODELS.register("lstm")
class LSTM(RecurrentModel):
    """Long short-term memory: additive memory, so that what was seen long ago still counts."""

    Layer = LSTMLayer
